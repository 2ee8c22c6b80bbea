"""The end of child processes, seen by their pidfds: no thread, no SIGCHLD, from any thread."""

from __future__ import annotations

import asyncio
import os
import subprocess
from typing import Any

# asyncio's figure for a child that somebody else has reaped.
_UNKNOWN = 255


class Child:
    """The watch over one child, until it has ended or the loop is closed."""

    __slots__ = ("_code", "_gone", "_loop", "_pid", "_pidfd", "_transport")

    def __init__(self, loop: Any, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._pid: int = transport.get_pid()
        self._pidfd = -1
        self._code: int | None = None
        self._gone: asyncio.Future[None] | None = None
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            # SIGCHLD is ignored, and the kernel has reaped it.
            loop.call_soon(self._reap)
            return
        loop._children.add(self)
        loop._add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        try:
            self._ask()
        except MemoryError:
            # The next turn asks again.
            raise
        except BaseException:
            # The kernel would say the same for ever: it is told once, as by asyncio.
            self.close()
            raise
        self.close()
        self._reap()

    def _ask(self) -> int:
        if self._code is None:
            try:
                _, status = os.waitpid(self._pid, 0)
            except ChildProcessError:
                # Somebody has asked already; a Popen keeps what it was told.
                self._code = self._known()
            else:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _reap(self) -> None:
        try:
            self._transport._process_exited(self._ask())
        finally:
            if self._gone is not None and not self._gone.done():
                self._gone.set_result(None)

    async def wait(self) -> None:
        """Wait until the child has ended, whatever became of its pipes."""
        if self._code is None:
            self._gone = self._loop.create_future()
            await self._gone

    def _known(self) -> int:
        process = self._transport.get_extra_info("subprocess")
        if isinstance(process, subprocess.Popen) and process.returncode is not None:
            return process.returncode
        return _UNKNOWN

    def close(self) -> None:
        """Stop watching; the child goes on, and whoever started it reaps it."""
        self._loop._children.discard(self)
        if self._pidfd >= 0:
            if not self._loop.is_closed():
                self._loop._remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def watch_child(loop: Any, transport: Any) -> Child:
    """Tell a subprocess transport of asyncio's when its process has ended.

    Raises:
        OSError, MemoryError: no descriptor is left for the watch, or no memory. A child that nobody can
            hear of must not run, so it has been killed.
    """
    try:
        return Child(loop, transport)
    except (OSError, MemoryError):
        process = transport.get_extra_info("subprocess")
        process.kill()
        transport._process_exited(process.wait())
        raise
