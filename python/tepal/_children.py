"""The end of child processes, seen by their pidfds: no thread, no SIGCHLD."""

from __future__ import annotations

import os
from typing import Any


def watch_child(loop: Any, transport: Any) -> None:
    """Tell a subprocess transport of asyncio's when its process has ended."""
    pid = transport.get_pid()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        loop.call_soon(_reap, transport, pid)
        return

    def ended() -> None:
        loop._remove_reader(pidfd)
        os.close(pidfd)
        _reap(transport, pid)

    loop._add_reader(pidfd, ended)


def _reap(transport: Any, pid: int) -> None:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        # Somebody else has reaped it; asyncio's figure for that.
        code = 255
    else:
        code = os.waitstatus_to_exitcode(status)
    transport._process_exited(code)
