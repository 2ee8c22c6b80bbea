"""Executors: the threads that users ask for."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from asyncio.futures import _copy_future_state  # type: ignore[attr-defined]
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from ._native import check_callback

T = TypeVar("T")

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object


class Executors(Base):
    """The part of `Loop` that uses threads: only when its user says so."""

    def _init_executors(self) -> None:
        self._default_executor: Executor | None = None
        self._executor_shutdown_called = False

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run func(*args) in an executor; None is the loop's own pool of threads."""
        self._check_closed()
        if self.get_debug():
            check_callback(func, "run_in_executor")
        if executor is None:
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            executor = self._default_executor
            if executor is None:
                executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
                self._default_executor = executor
        work = executor.submit(func, *args)
        if type(work) is not Future:
            # Of an executor of somebody's own.
            return asyncio.wrap_future(work, loop=self)  # type: ignore[arg-type]
        # `wrap_future`, without looking at each step at what is known here.
        future: asyncio.Future[T] = self.create_future()

        def cancel(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                work.cancel()

        def tell(work: Future[T]) -> None:
            if not self.is_closed():
                self.call_soon_threadsafe(_copy_future_state, work, future)

        future.add_done_callback(cancel)
        work.add_done_callback(tell)
        return future

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:
        """Set the pool that `run_in_executor(None, ...)` uses."""
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def _shutdown_default_executor(self, timeout: float | None) -> None:
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        future = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, future))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            warnings.warn(
                "The executor did not finishing joining "
                f"its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=3,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    if sys.version_info >= (3, 12):

        async def shutdown_default_executor(self, timeout: float | None = None) -> None:
            """Wait until the loop's own pool has ended, `timeout` seconds at most."""
            await self._shutdown_default_executor(timeout)

    else:

        async def shutdown_default_executor(self) -> None:
            """Wait until the loop's own pool has ended."""
            await self._shutdown_default_executor(None)

    def _join_executor(self, executor: Executor, future: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as raised:
            error = raised
        try:
            self.call_soon_threadsafe(_finish, future, error)
        except RuntimeError:
            # Nobody waits any more: the loop was closed.
            pass

    def _close_executor(self) -> None:
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _finish(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
