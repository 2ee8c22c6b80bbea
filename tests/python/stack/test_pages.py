"""The programs on the pages of docs/python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[3] / "docs" / "python"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def programs() -> list[tuple[str, str]]:
    return [
        (f"{page.stem}-{number}", text)
        for page in sorted(PAGES.glob("*.md"))
        for number, text in enumerate(BLOCK.findall(page.read_text()), 1)
    ]


@pytest.mark.parametrize("text", [text for _, text in programs()], ids=[n for n, _ in programs()])
def test_a_program_of_the_documentation_runs_clean(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What takes long on a busy machine is told in debug mode, and is no fault.
    told = [line for line in done.stderr.splitlines() if not line.startswith("Executing ")]
    assert (done.returncode, told) == (0, [])


def test_there_are_programs() -> None:
    assert len(programs()) >= 5
