"""What comes of the exceptions of callbacks: the handler, the end of a run, the rest of the queue."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


@pytest.fixture
def loop(bare_loop):
    return bare_loop


class OurBaseException(BaseException):
    pass


class OurException(Exception):
    pass


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


# What calls a user's code, given a function that raises.
CALLERS = {
    "call_soon": lambda loop, f: loop.call_soon(f),
    "call_soon_threadsafe": lambda loop, f: loop.call_soon_threadsafe(f),
    "call_later": lambda loop, f: loop.call_later(0, f),
    "done_callback": lambda loop, f: done_callback(loop, f),
    "reader": lambda loop, f: descriptor(loop, f, loop.add_reader, loop.remove_reader),
    "writer": lambda loop, f: descriptor(loop, f, loop.add_writer, loop.remove_writer),
}
OURS = {
    "timer": lambda loop, f: loop.timer(0, f).start(),
    "watcher": lambda loop, f: watcher(loop, f),
}


def done_callback(loop, f):
    future = loop.create_future()
    future.add_done_callback(lambda _: f())
    future.set_result(None)


def descriptor(loop, f, add, remove):
    a, b = socket.socketpair()
    b.send(b"x")

    def callback():
        remove(a)
        a.close()
        b.close()
        f()

    add(a, callback)


def watcher(loop, f):
    a, b = socket.socketpair()

    def callback(events):
        made.stop()
        a.close()
        b.close()
        f()

    made = loop.watch(a, tepal.WRITE, callback)
    made.start()


def run_out(loop):
    """Turns until nothing is ready."""
    for _ in range(5):
        turn(loop)


@pytest.mark.parametrize("caller", [*CALLERS, *OURS])
@pytest.mark.parametrize("kind", [OurException, OurBaseException, asyncio.CancelledError, GeneratorExit])
def test_an_exception_goes_to_the_handler_once_and_the_loop_goes_on(loop, caller, kind):
    failures = []
    loop.set_exception_handler(lambda _, report: failures.append(report))

    def fail():
        raise kind("text")

    {**CALLERS, **OURS}[caller](loop, fail)
    run_out(loop)
    assert [type(each["exception"]) for each in failures] == [kind]
    assert failures[0]["message"].startswith("Exception in callback")
    assert isinstance(failures[0]["handle"], asyncio.Handle)


@pytest.mark.parametrize("caller", [*CALLERS, *OURS])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_programs_leaves_the_run_and_keeps_the_queue(loop, caller, kind):
    order = []

    def fail():
        loop.call_soon(order.append, "queued in the broken turn")
        raise kind("text")

    {**CALLERS, **OURS}[caller](loop, fail)
    loop.call_later(0, order.append, "timer")
    with pytest.raises(kind, match="text"):
        loop.run_forever()
    assert not loop.is_running() and asyncio._get_running_loop() is None
    loop.call_soon(order.append, "queued after")
    run_out(loop)
    assert sorted(order) == ["queued after", "queued in the broken turn", "timer"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_they_leave_run_until_complete_out_of_a_task_too(any_loop, kind):
    async def main():
        raise kind("text")

    with pytest.raises(kind, match="text"):
        any_loop.run_until_complete(main())
    assert any_loop.run_until_complete(asyncio.sleep(0, "again")) == "again"
    gc.collect()


def test_the_handler_itself_may_fail(any_loop, reports):
    def handler(loop, context):
        raise OurException("in the handler")

    any_loop.set_exception_handler(handler)
    any_loop.call_soon(lambda: 1 / 0)
    turn(any_loop)
    assert reports() == ["Unhandled error in exception handler"]

    class Loop(type(any_loop)):
        def default_exception_handler(self, context):
            raise OurException("in the default handler")

    other = Loop()
    other.call_soon(lambda: 1 / 0)
    turn(other)
    other.close()
    assert reports() == ["Exception in default exception handler"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_programs_leaves_through_the_handler(any_loop, kind):
    def handler(loop, context):
        raise kind

    any_loop.set_exception_handler(handler)
    any_loop.call_soon(lambda: 1 / 0)
    with pytest.raises(kind):
        turn(any_loop)
    turn(any_loop)


def test_an_overridden_call_exception_handler_is_called_and_may_raise(loop):
    class Loop(tepal.Loop):
        def call_exception_handler(self, context):
            raise OurException(context["message"])

    other = Loop()
    other.call_soon(lambda: 1 / 0)
    with pytest.raises(OurException, match="Exception in callback"):
        turn(other)
    other.close()


def test_a_handler_must_be_callable(any_loop):
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        any_loop.set_exception_handler("text")
    any_loop.set_exception_handler(print)
    assert any_loop.get_exception_handler() is print
    any_loop.set_exception_handler(None)
    assert any_loop.get_exception_handler() is None


def test_a_connection_that_finds_no_memory_at_its_beginning_is_told_of_once(loop):
    class Hungry(asyncio.Protocol):
        def connection_made(self, transport):
            raise MemoryError

    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            with contextlib.suppress(MemoryError):
                await loop.create_connection(Hungry, sock=ours)
            while not told:
                await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(main(), 10))
    assert told == ["Fatal error: protocol.connection_made() call failed."]
