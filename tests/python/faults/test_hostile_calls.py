"""Hostile arguments to every method: asyncio's exception, and never a panic, a crash or a hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import hostile_calls, hostile_subjects
from .sampling import SEED, SHARE

PROGRAM = Path(hostile_calls.__file__)


@pytest.mark.parametrize("subject", hostile_subjects.SUBJECTS)
def test_hostile_arguments_have_asyncios_outcome(subject):
    command = [sys.executable, "-X", "dev", "-W", "error", str(PROGRAM), subject, SEED, str(SHARE or 0.03)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1000)
    # The last call that was begun, if it died.
    told = f"seed {SEED}: {ended.stdout}{ended.stderr[-2000:]}"
    assert ended.returncode == 0, told
    assert ended.stdout.endswith(" calls, 0 differ\n"), told
