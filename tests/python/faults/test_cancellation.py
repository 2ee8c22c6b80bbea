"""Cancelled at every step, once and twice: the awaiting code hears of it, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import Any

import pytest
from ledgers import descriptors

import tepal

from .awaitables import AWAITABLES, Awaitable, Place
from .sampling import drawn

pytestmark = pytest.mark.usefixtures("ledger")

# Longer ones wait for the clock or for a child, and nothing new happens in their turns.
STEPS = 40


async def cancelled_at(place: Place, make: Awaitable, step: int, twice: bool) -> str:
    """What came of it; "too late" if it had ended before."""
    task = place.loop.create_task(make(place))
    for _ in range(step):
        await asyncio.sleep(0)
    late = task.done()
    asked = task.cancel()
    if twice:
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.done(), "it does not end"
    told = "too late" if late else "cancelled"
    if not task.cancelled():
        result = task.result()
        if asked:
            told = "finished"
        for name in ("abort", "close"):
            if hasattr(result, name):
                getattr(result, name)()
                break
    await place.close_all()
    # The peer of an aborted connection hears of it some turns later.
    for _ in range(10):
        await asyncio.sleep(0)
    return told


def leftovers(loop: Any) -> list[Any]:
    return [task for task in asyncio.all_tasks(loop) if not task.done()]


def story(make: Awaitable, step: int, twice: bool) -> str:
    reports: list[Any] = []
    unraisable: list[Any] = []
    old = sys.unraisablehook
    sys.unraisablehook = lambda told: unraisable.append(repr(told.exc_value))
    before = descriptors()
    loop = tepal.new_event_loop()
    loop.set_debug(False)
    loop.set_exception_handler(lambda _, context: reports.append(context))
    place = Place(loop)
    try:
        told = loop.run_until_complete(asyncio.wait_for(cancelled_at(place, make, step, twice), 20))
        assert leftovers(loop) == []
        for _ in range(100):
            # A child that was killed takes its time, and a thread of an executor.
            if not loop._children and not loop._ready:
                break
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.run_until_complete(loop.shutdown_default_executor())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop.close()
            del place
            gc.collect()
    finally:
        sys.unraisablehook = old
        loop.close()
    assert (reports, unraisable) == ([], [])
    assert descriptors() - before == set()
    return told


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("name", AWAITABLES)
def test_what_is_cancelled_at_any_step_leaves_nothing_behind(name, twice):
    make = AWAITABLES[name]
    steps = drawn(range(STEPS), 3)
    for step in steps:
        told = story(make, step, twice)
        # Whoever was cancelled must hear of it. Before 3.12 wait_for prefers a result that is there.
        if name != "wait_for" or sys.version_info >= (3, 12):
            assert told != "finished", f"at step {step}"
        if told == "too late":
            break
