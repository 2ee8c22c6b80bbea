"""A pytest plugin for other people's test suites: every loop that asyncio makes is tepal's.

`pytest -p on_tepal`, with this directory on PYTHONPATH. The suites get their loops by policies and
runners, which ask the default policy's factory in the end.
"""

from __future__ import annotations

from asyncio import unix_events
from typing import Any

import tepal

made = 0


def _factory() -> Any:
    global made
    made += 1
    return tepal.new_event_loop()


for _name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
    if hasattr(unix_events, _name):
        getattr(unix_events, _name)._loop_factory = staticmethod(_factory)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"loops of tepal: {made}")
