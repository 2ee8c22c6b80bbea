"""The same tests on asyncio's loop, which tells what is expected, and on tepal's, in both ways."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tepal
from tepal import _tepal

sys.path.insert(0, str(Path(__file__).parent))

WAYS = ("asyncio", "direct", "buffers")


def open_descriptors() -> set[int]:
    """The descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def new_loop(way: str) -> Any:
    if way == "asyncio":
        return asyncio.SelectorEventLoop()
    _tepal._openssl_direct(way == "direct")
    return tepal.new_event_loop()


def ledger(way: str) -> Iterator[Any]:
    """A loop that must leave no descriptor and no unreported exception behind."""
    gc.collect()
    loop = new_loop(way)
    loop.run_until_complete(asyncio.sleep(0))
    before = open_descriptors()
    loop.reports = []
    loop.way = way
    loop.set_exception_handler(lambda _, context: loop.reports.append(context))
    yield loop
    for _ in range(3):  # what was told to close may still be closing
        loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    left = open_descriptors() - before
    loop.close()
    _tepal._openssl_direct(True)
    assert not left, f"descriptors were left open: {left}"
    assert not loop.reports, f"nobody looked at {loop.reports}"


@pytest.fixture(params=WAYS)
def loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from ledger(request.param)


@pytest.fixture(params=WAYS[1:])
def own_loop(request: pytest.FixtureRequest) -> Iterator[Any]:
    """For what asyncio does not do, or does wrong."""
    yield from ledger(request.param)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine, for ten seconds at most."""
    name = "loop" if "loop" in request.fixturenames else "own_loop"
    loop = request.getfixturevalue(name)
    return lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 10))
