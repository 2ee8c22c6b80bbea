"""What importing the package costs, and that every name is there all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tepal


def test_a_program_that_wants_only_the_loop_makes_no_values_of_layers() -> None:
    code = (
        "import sys, asyncio, tepal\n"
        "tepal.run(asyncio.sleep(0))\n"
        "print([n for n in ('tepal._layers', 'tepal._layer') if n in sys.modules])\n"
        "print(tepal.TLS.__name__, 'tepal._layers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\nTLS True\n", done.stderr


def test_every_public_name_is_there_and_listed() -> None:
    for name in tepal.__all__:
        assert getattr(tepal, name) is not None
        assert name in dir(tepal)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        tepal.nothing_of_the_kind  # type: ignore[attr-defined]
