"""Runs: what begins, ends and breaks them, and what they tell in debug mode."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import socket
import sys
import threading
import warnings
import weakref

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


@pytest.fixture
def loop(bare_loop):
    return bare_loop


def test_a_run_inside_a_run_is_refused(loop):
    # asyncio of 3.13.0 forgets that it runs when it refuses, so it is no judge here.
    failures = []
    other = asyncio.SelectorEventLoop()

    def callback():
        for run in (
            loop.run_forever,
            other.run_forever,
            lambda: loop.run_until_complete(loop.create_future()),
        ):
            try:
                run()
            except RuntimeError as error:
                failures.append(str(error))
        try:
            loop.close()
        except RuntimeError as error:
            failures.append(str(error))
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    other.close()
    assert failures == [
        "This event loop is already running",
        "Cannot run the event loop while another loop is running",
        "This event loop is already running",
        "Cannot close a running event loop",
    ]


def test_a_loop_runs_in_one_thread_at_a_time(loop):
    failures = []

    def other():
        try:
            loop.run_forever()
        except RuntimeError as error:
            failures.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert failures == ["This event loop is already running"]


def test_a_loop_may_be_made_run_closed_and_freed_in_different_threads():
    found = []

    def in_thread(f, *args):
        thread = threading.Thread(target=f, args=args)
        thread.start()
        thread.join()

    def make():
        found.append(tepal.new_event_loop())

    def use(loop):
        found.append(loop.run_until_complete(asyncio.sleep(0.001, "ran")))

    in_thread(make)
    in_thread(use, found[0])
    assert found[1] == "ran"
    in_thread(found[0].close)
    in_thread(found.clear)


def test_stop_before_a_run_makes_one_turn(any_loop):
    order = []
    any_loop.call_soon(lambda: any_loop.call_soon(order.append, 2))
    any_loop.call_soon(order.append, 1)
    any_loop.stop()
    any_loop.run_forever()
    assert order == [1]
    any_loop.stop()
    any_loop.run_forever()
    assert order == [1, 2]


def test_a_closed_loop_refuses_what_needs_it(any_loop):
    any_loop.close()
    any_loop.close()
    assert any_loop.is_closed() and not any_loop.is_running()
    made = asyncio.sleep(0)
    for use in (
        any_loop.run_forever,
        lambda: any_loop.run_until_complete(made),
        lambda: any_loop.create_task(made),
        lambda: any_loop.run_in_executor(None, print),
        lambda: any_loop.add_signal_handler(10, print),
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            use()
    made.close()
    any_loop.stop()
    assert any_loop.time() > 0 and any_loop.get_debug() is False
    assert "closed=True" in repr(any_loop)


def test_a_future_that_never_ends_is_told(any_loop):
    future = any_loop.create_future()
    any_loop.call_soon(any_loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        any_loop.run_until_complete(future)


@pytest.mark.parametrize("what", [None, 1, "text", print])
def test_what_cannot_be_awaited_is_refused(any_loop, what):
    with pytest.raises(TypeError):
        any_loop.run_until_complete(what)


def test_the_running_loop_is_known_inside_and_not_outside(any_loop):
    async def main():
        assert asyncio.get_running_loop() is any_loop
        assert any_loop.is_running() and "running=True" in repr(any_loop)

    any_loop.run_until_complete(main())
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_the_hooks_of_async_generators_are_set_for_the_run_only(any_loop):
    before = sys.get_asyncgen_hooks()
    closed = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main():
        assert sys.get_asyncgen_hooks() != before
        async for _ in generator():
            break
        kept.append(generator())
        await kept[0].asend(None)

    kept: list = []
    any_loop.run_until_complete(main())
    assert sys.get_asyncgen_hooks() == before
    any_loop.run_until_complete(any_loop.shutdown_asyncgens())
    assert closed == [True, True]

    async def late():
        await generator().asend(None)

    with pytest.warns(ResourceWarning, match="was scheduled after"):
        any_loop.run_until_complete(late())
    any_loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    any_loop.run_until_complete(asyncio.sleep(0))


def test_origins_of_coroutines_are_tracked_in_debug_mode_only(any_loop):
    async def depth():
        return sys.get_coroutine_origin_tracking_depth()

    assert any_loop.run_until_complete(depth()) == 0
    any_loop.set_debug(True)
    assert any_loop.run_until_complete(depth()) > 0
    any_loop.call_soon(any_loop.set_debug, False)
    any_loop.call_soon(any_loop.stop)
    any_loop.run_forever()
    assert sys.get_coroutine_origin_tracking_depth() == 0


def test_debug_mode_tells_of_slow_callbacks(any_loop, caplog):
    any_loop.set_debug(True)
    any_loop.slow_callback_duration = 0.0

    async def main():
        pass

    with caplog.at_level(logging.WARNING, "asyncio"):
        any_loop.run_until_complete(main())
    assert any("Executing <Task finished" in r.getMessage() for r in caplog.records)


def test_debug_mode_tells_of_slow_methods_of_protocols(loop, caplog):
    class Slow(asyncio.Protocol):
        def connection_lost(self, exc):
            self.lost.set_result(None)

    ours, theirs = socket.socketpair()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    endpoint = (asyncio.DatagramProtocol, ("127.0.0.1", 0))

    async def main():
        _, protocol = await loop.create_connection(Slow, sock=ours)
        protocol.lost = loop.create_future()
        theirs.sendall(b"x")
        theirs.close()
        await protocol.lost
        datagrams, _ = await loop.create_datagram_endpoint(*endpoint)
        datagrams.sendto(b"x", datagrams.get_extra_info("sockname"))
        await asyncio.sleep(0.01)
        datagrams.close()

    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.run_until_complete(main())
    loop.set_debug(False)
    told = [r.getMessage() for r in caplog.records]
    for method in ("connection_made", "data_received", "eof_received", "connection_lost"):
        shown = f"Executing <Slow.{method}() of <StreamTransport "
        assert any(text.startswith(shown) and text.endswith(" seconds") for text in told), method
    assert any("<DatagramProtocol.datagram_received() of" in text for text in told)


def test_tasks_take_names_contexts_and_factories(any_loop):
    var = contextvars.ContextVar("var")
    context = contextvars.Context()
    context.run(var.set, "given")

    async def main():
        return var.get(None)

    task = any_loop.create_task(main(), name="name", context=context)
    assert task.get_name() == "name" and any_loop.run_until_complete(task) == "given"
    assert any_loop.run_until_complete(any_loop.create_task(coro=main())) is None

    made = []

    def factory(loop, coro, **keywords):
        made.append(keywords.pop("name", None))
        return asyncio.Task(coro, loop=loop, **keywords)

    any_loop.set_task_factory(factory)
    assert any_loop.get_task_factory() is factory
    task = any_loop.create_task(main(), name="other", context=context)
    assert any_loop.run_until_complete(task) == "given" and len(made) == 1
    any_loop.set_task_factory(None)
    assert any_loop.get_task_factory() is None
    with pytest.raises(TypeError):
        any_loop.set_task_factory("text")
    for wrong in ({}, {"nonsense": 1}):
        with pytest.raises(TypeError):
            any_loop.create_task(**wrong)
    with pytest.raises(TypeError):
        any_loop.create_task(1)


def test_a_loop_is_collected_with_all_that_it_holds():
    class Thing:
        pass

    loop, thing = tepal.new_event_loop(), Thing()
    gone = [weakref.ref(loop), weakref.ref(thing)]
    thing.loop = loop
    loop.call_soon(print, thing)
    loop.call_later(1000, print, thing)
    loop.timer(1000, print, thing).start()
    import socket

    a, b = socket.socketpair()
    loop.add_reader(a, print, thing)
    loop.watch(b, tepal.READ, print, thing).start()
    loop.create_future().add_done_callback(thing.__init__)
    loop.set_exception_handler(thing.__repr__)
    loop.set_task_factory(thing.__init__)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop, thing
        gc.collect()
    assert [each() for each in gone] == [None, None]
    assert [str(each.message)[:20] for each in caught] == ["unclosed event loop "]
    a.close()
    b.close()


def test_run_is_asyncios_run_on_our_loop():
    async def main():
        assert isinstance(asyncio.get_running_loop(), tepal.Loop)
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            tepal.run(asyncio.sleep(0))
        return "result"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert tepal.run(main()) == "result"
        gc.collect()
    # A ValueError before 3.14, a TypeError from then on.
    with pytest.raises((ValueError, TypeError)) as theirs:
        asyncio.run("text")
    with pytest.raises(theirs.type):
        tepal.run("text")


@pytest.mark.parametrize("driver", ["epoll", "poll"])
def test_the_driver_can_be_named(driver):
    loop = tepal.new_event_loop(driver=driver)
    assert loop.driver == driver
    assert loop.run_until_complete(asyncio.sleep(0.001, 1)) == 1
    loop.close()


def test_an_unknown_driver_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match="epoll"):
        tepal.new_event_loop(driver="nonsense")
    with pytest.raises(TypeError):
        tepal.new_event_loop(resolver="text")


def test_an_interrupt_beside_the_end_does_not_stop_the_next_run(bare_loop):
    def interrupt():
        raise KeyboardInterrupt

    async def main():
        # It is called before the run hears that this has ended.
        bare_loop.call_soon(interrupt)

    with pytest.raises(KeyboardInterrupt):
        bare_loop.run_until_complete(main())
    assert bare_loop.run_until_complete(asyncio.sleep(0.001, "well")) == "well"
