"""`run_in_executor`: what is made of the executor's future, on each loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import pytest


class Own(ThreadPoolExecutor):
    """An executor whose futures are of a class of its own."""

    class Work(Future[Any]):
        pass

    def submit(self, function: Any, *args: Any, **keywords: Any) -> Any:
        work = Own.Work()
        work.set_result(function(*args, **keywords))
        return work


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, Own])
def test_a_result_comes_back(any_loop: asyncio.AbstractEventLoop, kind: Any) -> None:
    with kind(1) as executor:
        future = any_loop.run_in_executor(executor, divmod, 7, 3)
        assert any_loop.run_until_complete(future) == (2, 1)
        assert future.get_loop() is any_loop


@pytest.mark.parametrize("raised", [ValueError, CancelledError, TimeoutError])
def test_an_exception_comes_back_as_asyncios(any_loop: asyncio.AbstractEventLoop, raised: Any) -> None:
    def fail() -> None:
        raise raised("why")

    expected = {CancelledError: asyncio.CancelledError}.get(raised, raised)
    with ThreadPoolExecutor(1) as executor, pytest.raises(expected, match="why"):
        any_loop.run_until_complete(any_loop.run_in_executor(executor, fail))


def test_work_whose_future_is_cancelled_does_not_begin(any_loop: asyncio.AbstractEventLoop) -> None:
    go, ran = threading.Event(), []

    async def main(executor: ThreadPoolExecutor) -> None:
        first = any_loop.run_in_executor(executor, go.wait, 10)
        second = any_loop.run_in_executor(executor, ran.append, "second")
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        assert await first
        await any_loop.run_in_executor(executor, ran.append, "third")

    with ThreadPoolExecutor(1) as executor:
        any_loop.run_until_complete(main(executor))
    assert ran == ["third"]


def test_work_that_ends_behind_the_loop_is_let_go(
    any_loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        future = any_loop.run_in_executor(executor, go.wait, 10)
        any_loop.close()
        go.set()
    assert not future.done()
    assert not caplog.records
