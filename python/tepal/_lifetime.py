"""Runs to a result, async generators, and the end of a loop."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import warnings
import weakref
from asyncio import base_events
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from ._tepal import _stop_loops_of_threads

T = TypeVar("T")

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object


_loops: weakref.WeakSet[Lifetime] = weakref.WeakSet()


def _after_fork() -> None:
    """In a child process: let go of the parent's loops, so that nothing here disturbs them."""
    ran = [loop._after_fork() for loop in _loops]
    if any(ran):
        # Signals would be written into the parent's pipe.
        signal.set_wakeup_fd(-1)


# Registered at import, so that it runs after the exit handlers of programs.
atexit.register(_stop_loops_of_threads)
os.register_at_fork(after_in_child=_after_fork)


def _stop_when_done(future: asyncio.Future[Any]) -> None:
    loop: Any = future.get_loop()
    if loop._awaited is not future:
        # An interrupt ended the run that waited for it.
        return
    if not future.cancelled():
        error = future.exception()
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            # It leaves the run by itself.
            return
    loop.stop()


class Lifetime(Base):
    """The part of `Loop` that begins and ends things."""

    def _init_lifetime(self) -> None:
        _loops.add(self)
        # What `run_until_complete` waits for.
        self._awaited: asyncio.Future[Any] | None = None
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        self._transports: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def run_until_complete(self, future: Awaitable[T]) -> T:
        """Run until `future` is done, and return its result or raise its exception.

        A coroutine becomes a task.

        Raises:
            RuntimeError: the loop is closed or runs already, or was stopped before the future was done.
        """
        self._check_closed()
        self._check_running()
        made_here = not asyncio.isfuture(future)
        task: asyncio.Future[T] = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        if made_here:
            # If the run ends before the task, the caller is told so by our exception.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        try:
            self._awaited = task
            task.add_done_callback(_stop_when_done)
            self.run_forever()
        except BaseException:
            if made_here and task.done() and not task.cancelled():
                # What left the run is the task's own exception: mark it as seen.
                task.exception()
            raise
        finally:
            self._awaited = None
            task.remove_done_callback(_stop_when_done)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def close(self) -> None:
        """Close the loop: descriptors are closed, what is queued is dropped, nothing is called.

        Raises:
            RuntimeError: the loop runs.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            base_events.logger.debug("Close %r", self)
        self._close_signals()  # type: ignore[attr-defined]
        open_count = self._close()
        self._close_endpoints()  # type: ignore[attr-defined]
        self._close_executor()  # type: ignore[attr-defined]
        if open_count:
            # `warnings` would import it, and an import may run finalizers, which warn as well and
            # find it half imported.
            try:
                import tracemalloc  # noqa: F401
            except ImportError:
                # The interpreter ends: then `warnings` imports nothing either.
                pass

            _Unclosed(self, open_count)

    def _ensure_fd_no_transport(self, fd: int) -> None:
        if self._is_of_transport(fd):
            raise RuntimeError(f"File descriptor {fd!r} is used by transport of this loop")
        # Those of asyncio's own classes.
        transport = self._transports.get(fd)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fd!r} is used by transport {transport!r}")

    # ---- async generators

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after "
                "loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(agen)
        if not self.is_closed():
            # The collector may run in any thread.
            self.call_soon_threadsafe(self.create_task, agen.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close all async generators that were begun on this loop and not ended."""
        self._asyncgens_shutdown_called = True
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        if not closing:
            return
        results = await asyncio.gather(*[agen.aclose() for agen in closing], return_exceptions=True)
        for agen, result in zip(closing, results, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )


class _Unclosed:
    """Warns of open transports as their destructors do in asyncio.

    In words that its filters find, and so that a warning which is made an error does not leave
    `close`.
    """

    def __init__(self, loop: Any, count: int) -> None:
        self.loop, self.count = loop, count

    def __del__(self, _warn: Any = warnings.warn) -> None:
        word = "transport" if self.count == 1 else "transports"
        _warn(
            f"unclosed {word}: {self.count}, when {self.loop!r} was closed",
            ResourceWarning,
            source=self.loop,
            stacklevel=3,
        )
