"""Allocations that fail, one in each program: it gets MemoryError or goes on, and never sleeps for ever."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from .sampling import SHARE

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this interpreter has no _testcapi, which makes allocations fail"
)

# Not every allocation in a short run, and others than those of the next scene.
STEP = 1 if SHARE else 11


@pytest.mark.parametrize("scene", ["echo", "streams", "timers", "threads", "children", "secured"])
def test_a_program_survives_one_failed_allocation(scene):
    script = Path(__file__).with_name("nomemory.py")
    command = [sys.executable, "-B", str(script), scene, "1", str(STEP)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=1000 if SHARE else 50)
    assert run.returncode == 0
    assert "WRONG" not in run.stdout
    assert "'MemoryError'" in run.stdout or scene == "threads"
