"""The collector and handles: queued ones are out of its sight, and still nothing is lost or leaks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import warnings
import weakref
from typing import Any

import pytest

import tepal

VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


class Keeper:
    """Refers to its handle, which refers to it."""

    handle: asyncio.Handle

    def method(self, *args: object) -> None:
        pass


def keep(loop: Any, how: str) -> Keeper:
    keeper = Keeper()
    if how == "call_soon":
        keeper.handle = loop.call_soon(keeper.method, 1, 2, 3, 4)
    elif how == "call_later":
        keeper.handle = loop.call_later(0, keeper.method)
    else:
        # What is left of it refers to the context, and that to the keeper.
        context = contextvars.copy_context()
        context.run(VARIABLE.set, keeper)
        keeper.handle = loop.call_later(60, keeper.method, context=context)
        keeper.handle.cancel()
    return keeper


@pytest.mark.parametrize("how", ["call_soon", "call_later", "cancelled"])
@pytest.mark.parametrize("within", [True, False])
def test_a_cycle_through_a_kept_handle_is_collected(any_loop: Any, how: str, within: bool) -> None:
    gone: list[weakref.ref[Keeper]] = []

    async def main() -> None:
        if within:
            gone.append(weakref.ref(keep(any_loop, how)))
        await asyncio.sleep(0.01)
        await asyncio.sleep(0)

    if not within:
        gone.append(weakref.ref(keep(any_loop, how)))
    any_loop.run_until_complete(main())
    gc.collect()
    assert gone[0]() is None


@pytest.mark.parametrize("how", ["call_soon", "timer"])
@pytest.mark.parametrize("when", ["before", "during", "many"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_loop_that_is_dropped_with_what_it_has_queued_is_collected(how: str, when: str, kept: bool) -> None:
    loop = tepal.new_event_loop()
    keeper = Keeper()
    keeper.loop = loop  # type: ignore[attr-defined]
    # A context that leads back to the loop, too.
    VARIABLE.set(keeper)

    def queue() -> None:
        # More than the list of free handles holds.
        # The names are deleted below, which the linter takes for never bound.
        for _ in range(3000 if when == "many" else 1):
            if how == "call_soon":
                handle = loop.call_soon(keeper.method)  # noqa: F821
            else:
                handle = loop.call_later(60, keeper.method)  # noqa: F821
        if kept:
            keeper.handle = handle  # noqa: F821

    if when == "before":
        queue()
    else:
        loop.call_soon(loop.stop)
        loop.call_soon(queue)
        loop.run_forever()
    gone = [weakref.ref(loop), weakref.ref(keeper)]
    VARIABLE.set(None)
    del loop, keeper, queue
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        gc.collect()
        gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert any("unclosed event loop" in str(warning.message) for warning in told)


def test_what_is_queued_survives_collections_with_its_context(any_loop: Any) -> None:
    seen: list[tuple[int, Any]] = []

    def see(number: int) -> None:
        seen.append((number, VARIABLE.get()[0]))
        if number % 500 == 0:
            gc.collect()

    async def main() -> None:
        for number in range(3000):
            VARIABLE.set([number])
            any_loop.call_soon(see, number)
        VARIABLE.set(None)
        gc.collect()
        await asyncio.sleep(0)
        gc.collect()

    any_loop.run_until_complete(main())
    assert seen == [(number, number) for number in range(3000)]


def test_a_context_that_was_asked_for_is_seen_by_the_collector(loop: Any) -> None:
    async def main() -> list[Any]:
        handles = [loop.call_soon(len, ()) for _ in range(3000)]
        contexts = [handle._context for handle in handles]
        assert all(map(gc.is_tracked, contexts))
        for handle in handles[::2]:
            handle.cancel()
        await asyncio.sleep(0)
        return contexts

    assert len({id(context) for context in loop.run_until_complete(main())}) == 3000
    gc.collect()


def test_handles_that_the_private_queue_gave_out_are_collected(loop: Any) -> None:
    gone = []

    async def main() -> None:
        keeper = Keeper()
        loop.call_soon(keeper.method)
        keeper.handle = loop._ready[0]
        gone.append(weakref.ref(keeper))
        del keeper
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    gc.collect()
    assert gone[0]() is None


def test_threads_call_while_others_collect(any_loop: Any) -> None:
    done = []

    def work() -> None:
        for number in range(5000):
            any_loop.call_soon_threadsafe(done.append, number)
            if number % 1000 == 0:
                gc.collect()

    threads = [threading.Thread(target=work) for _ in range(3)]

    async def main() -> None:
        for thread in threads:
            thread.start()
        while len(done) < 15000:
            await asyncio.sleep(0.001)

    any_loop.run_until_complete(main())
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(list(range(5000)) * 3)


def test_a_thread_that_wakes_the_loop_does_not_break_the_exit() -> None:
    code = """
import threading, tepal
loop = tepal.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
def work():
    while True:
        loop.call_soon_threadsafe(int)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
ran = threading.Event()
loop.call_soon_threadsafe(ran.set)
assert ran.wait(10)
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
