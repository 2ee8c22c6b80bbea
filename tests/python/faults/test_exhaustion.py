"""With no descriptor left at the n-th allocation, each operation fails with OSError and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from ledgers import descriptors

import tepal

from .awaitables import AWAITABLES, Place
from .sampling import drawn

pytestmark = pytest.mark.usefixtures("ledger")

# No operation makes more.
MOST = 16
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """As if the process might open only so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The limit is on the number, and the lowest free one is given out.
    taken = []
    probe = os.open("/dev/null", os.O_RDONLY)
    highest = max(number for number, _ in descriptors())
    os.close(probe)
    while (filler := os.open("/dev/null", os.O_RDONLY)) <= highest:
        taken.append(filler)
    os.close(filler)
    resource.setrlimit(resource.RLIMIT_NOFILE, (filler + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in taken:
            os.close(filler)


def is_of_it(error: BaseException | None) -> bool:
    """Whether an error says that no descriptor is left, or follows from a peer that had none."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_of_it, error.exceptions))
    return isinstance(error, (OSError, TimeoutError, EOFError, asyncio.IncompleteReadError))


async def scene(place: Place, name: str, left: int) -> None:
    task = asyncio.create_task(AWAITABLES[name](place))
    with descriptors_left(left):
        await asyncio.wait([task], timeout=0.5)
    task.cancel()
    await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    assert error is None or is_of_it(error), repr(error)
    if not task.cancelled() and error is None:
        for method in ("abort", "close"):
            if hasattr(task.result(), method):
                getattr(task.result(), method)()
                break
    del error, task
    # Those that await a peer would wait for ever.
    await asyncio.wait_for(place.close_all(), 10)
    for _ in range(3):
        await asyncio.sleep(0)


def outcome(name: str, left: int) -> tuple[list[str], list[Any]]:
    """What nobody caught, and what the loop's exception handler was told."""
    unraisable: list[str] = []
    reports: list[Any] = []
    old = sys.unraisablehook
    sys.unraisablehook = lambda told: unraisable.append(repr(told.exc_value))
    loop = tepal.new_event_loop()
    try:
        loop.set_debug(False)
        loop.run_until_complete(asyncio.sleep(0))
        loop.set_exception_handler(lambda _, context: reports.append(context.get("exception")))
        loop.run_until_complete(scene(Place(loop), name, left))
        while loop._children:
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
        gc.collect()
        sys.unraisablehook = old
    return unraisable, reports


def close_pipes_of_popen(found: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """What is left beside the pipes that a Popen of before 3.11.4 leaves open when it cannot make another."""
    pipes = {(number, name) for number, name in found if name.startswith("pipe:")}
    if sys.version_info >= (3, 11, 4) or len(pipes) > 4:
        return found
    for number, _ in pipes:
        os.close(number)
    return found - pipes


@pytest.mark.parametrize("name", AWAITABLES)
def test_an_operation_without_descriptors_fails_and_leaves_nothing(name):
    for left in drawn(range(MOST), 3):
        before = descriptors()
        unraisable, reports = outcome(name, left)
        assert unraisable == [], f"with {left} left"
        assert all(map(is_of_it, reports)), f"with {left} left: {reports}"
        found = descriptors() - before
        if name in ("subprocess_exec", "communicate"):
            found = close_pipes_of_popen(found)
        assert found == set(), f"with {left} left"


@pytest.mark.parametrize("left", range(6))
def test_a_loop_without_descriptors_is_not_made(left):
    before = descriptors()
    made = None
    with descriptors_left(left):
        try:
            made = tepal.new_event_loop()
            # Its first run makes what wakes it.
            made.run_until_complete(asyncio.sleep(0))
        except OSError as error:
            assert error.errno in NO_DESCRIPTOR
    if made is not None:
        # One that could not run then can now.
        assert made.run_until_complete(asyncio.sleep(0, 1)) == 1
        made.close()
    gc.collect()
    assert descriptors() - before == set()


def test_a_server_without_descriptors_accepts_when_there_are_some_again(loop, run):
    async def scene() -> None:
        made: list[Any] = []

        class Counting(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.append(transport)

        server = await loop.create_server(Counting, "127.0.0.1", 0)
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.sockets[0].getsockname())
        with descriptors_left(0):
            while not loop.reports:
                await asyncio.sleep(0.001)
            assert made == []
        while not made:
            await asyncio.sleep(0.01)
        made[0].abort()
        client.close()
        server.close()
        await server.wait_closed()
        assert {report["exception"].errno for report in loop.reports} == {errno.EMFILE}
        loop.reports.clear()

    run(scene())
