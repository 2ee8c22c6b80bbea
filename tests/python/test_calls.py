"""`call_soon` and its kin, and the handles that they return."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import sys
import threading
import weakref

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


@pytest.fixture
def loop(bare_loop):
    return bare_loop

METHODS = ["call_soon", "call_soon_threadsafe", "call_later", "call_at"]


def call(loop, method, *args, **keywords):
    """Calls a method so that its callback is due at once."""
    if method == "call_later":
        return loop.call_later(0, *args, **keywords)
    if method == "call_at":
        return loop.call_at(loop.time(), *args, **keywords)
    return getattr(loop, method)(*args, **keywords)


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def drain(loop):
    for _ in range(3):
        turn(loop)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", range(7))
def test_every_number_of_arguments_arrives(any_loop, method, count):
    got = []
    call(any_loop, method, lambda *args: got.append(args), *range(count))
    drain(any_loop)
    assert got == [tuple(range(count))]


@pytest.mark.parametrize("method", METHODS)
def test_callbacks_run_in_a_copy_of_the_context_or_in_the_one_given(any_loop, method):
    var = contextvars.ContextVar("var", default="none")
    seen = []

    def callback():
        seen.append(var.get())
        var.set("changed")

    token = var.set("caller")
    call(any_loop, method, callback)
    call(any_loop, method, callback)
    given = contextvars.Context()
    call(any_loop, method, callback, context=given)
    call(any_loop, method, callback, context=given)
    call(any_loop, method, callback, context=None)
    drain(any_loop)
    var.reset(token)
    assert seen == ["caller", "caller", "none", "changed", "caller"]


@pytest.mark.parametrize("method", METHODS)
def test_a_context_that_is_entered_already_is_the_callbacks_failure(any_loop, method, reports):
    context = contextvars.copy_context()
    failures = []
    any_loop.set_exception_handler(lambda _, report: failures.append(report["exception"]))
    call(any_loop, method, print, context=context)
    context.run(drain, any_loop)
    if sys.version_info >= (3, 12):
        # The handler runs in that context too, and cannot enter it either.
        assert failures == [] and reports() == ["Unhandled error in exception handler"]
    else:
        assert [type(each) for each in failures] == [RuntimeError]


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_callback_does_not_run_and_is_let_go(any_loop, method):
    class Callback:
        def __call__(self, argument):
            raise AssertionError

    callback = Callback()
    gone = weakref.ref(callback)
    handle = call(any_loop, method, callback, callback)
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    del callback
    gc.collect()
    assert handle.cancelled() and gone() is None
    drain(any_loop)


def test_a_callback_that_cancels_its_own_handle_ends_well(any_loop):
    got = []

    def callback(argument):
        handle.cancel()
        gc.collect()
        got.append(argument)

    handle = any_loop.call_soon(callback, ["argument"])
    drain(any_loop)
    assert got == [["argument"]]


def test_what_is_queued_in_a_turn_waits_for_the_next(any_loop):
    order = []

    def first():
        order.append("first")
        any_loop.call_soon(order.append, "later")

    any_loop.call_soon(first)
    any_loop.call_soon(order.append, "second")
    turn(any_loop)
    assert order == ["first", "second"]
    turn(any_loop)
    assert order == ["first", "second", "later"]


def test_one_order_for_calls_of_all_threads(any_loop):
    order = []
    any_loop.call_soon(order.append, 0)
    for number in range(1, 9):
        if number % 2:
            thread = threading.Thread(
                target=any_loop.call_soon_threadsafe, args=(order.append, number)
            )
            thread.start()
            thread.join()
        else:
            any_loop.call_soon(order.append, number)
    drain(any_loop)
    assert order == list(range(9))


def test_a_call_of_another_thread_wakes_a_loop_that_sleeps(any_loop):
    main_waits = threading.Event()

    def other():
        main_waits.wait()
        for _ in range(1000):
            any_loop.call_soon_threadsafe(got.append, 1)
        any_loop.call_soon_threadsafe(any_loop.stop)

    got: list[int] = []
    thread = threading.Thread(target=other)
    thread.start()
    any_loop.call_soon(main_waits.set)
    any_loop.run_forever()
    thread.join()
    assert len(got) == 1000


def test_timers_run_by_deadline_and_then_by_creation_and_never_early(loop):
    order = []

    def due(name, when):
        assert loop.time() >= when
        order.append(name)

    now = loop.time()
    for name, when in [("c", now + 0.02), ("a", now + 0.01), ("d", now + 0.02), ("b", now + 0.01)]:
        loop.call_at(when, due, name, when)
    loop.call_at(now + 0.03, loop.stop)
    loop.run_forever()
    assert order == ["a", "b", "c", "d"]


@pytest.mark.parametrize("when", [float("-inf"), -1, -1e300, False, 0])
def test_a_time_in_the_past_is_due_at_once(any_loop, when):
    got = []
    any_loop.call_at(when, got.append, "at")
    any_loop.call_later(when, got.append, "later")
    drain(any_loop)
    assert sorted(got) == ["at", "later"]


@pytest.mark.parametrize("when", [1e9, 1e30, float("inf")])
def test_a_time_far_away_waits(loop, when):
    handle = loop.call_at(loop.time() + when, print)
    drain(loop)
    assert handle.when() >= 1e9
    handle.cancel()


def test_a_deadline_is_shown_as_it_was_given(any_loop):
    now = any_loop.time()
    for when in (int(now) + 1000, now + 1000.5, float(int(now) + 1000), -7):
        handle = any_loop.call_at(when, print)
        assert (type(handle.when()), handle.when()) == (type(when), when)
        handle.cancel()


@pytest.mark.parametrize("method", ["call_later", "call_at"])
@pytest.mark.parametrize("when", [None, "1", [], object(), 1j])
def test_what_is_no_time_is_a_type_error(loop, method, when):
    # asyncio finds out about some of them only when it compares.
    with pytest.raises(TypeError):
        getattr(loop, method)(when, print)
    drain(loop)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_a_time_that_is_not_a_number_is_refused(loop, method):
    with pytest.raises(ValueError):
        getattr(loop, method)(float("nan"), print)


class Raising:
    def __float__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_an_exception_of_a_conversion_comes_out(loop, method):
    with pytest.raises(ZeroDivisionError):
        getattr(loop, method)(Raising(), print)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("args", "keywords"),
    [((), {}), ((print,), {"nonsense": 1}), ((print,), {"callback": print}), ((), {"context": None})],
)
def test_wrong_arguments_are_type_errors(any_loop, method, args, keywords):
    with pytest.raises(TypeError):
        call(any_loop, method, *args, **keywords)


def test_the_callback_and_the_time_can_be_named(any_loop):
    got = []
    any_loop.call_soon(callback=lambda: got.append(1))
    any_loop.call_later(delay=0, callback=lambda: got.append(2))
    any_loop.call_at(when=0, callback=lambda: got.append(3))
    drain(any_loop)
    assert sorted(got) == [1, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_help_tells_the_arguments_that_there_are(bare_loop, method):
    def words(loop):
        parameters = inspect.signature(getattr(loop, method)).parameters.values()
        return [(each.name, each.kind, each.default) for each in parameters]

    assert words(bare_loop) == words(asyncio.SelectorEventLoop)[1:]


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_loop_refuses(any_loop, method):
    any_loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        call(any_loop, method, print)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("callback", [None, 1, "text", object()])
def test_what_cannot_be_called_is_told_at_once_in_debug_mode_and_else_when_it_is_due(
    any_loop, method, callback
):
    failures = []
    any_loop.set_exception_handler(lambda _, report: failures.append(report["exception"]))
    call(any_loop, method, callback)
    drain(any_loop)
    assert [type(each) for each in failures] == [TypeError]
    any_loop.set_debug(True)
    with pytest.raises(TypeError, match="a callable object was expected by call_"):
        call(any_loop, method, callback)


@pytest.mark.parametrize("method", METHODS)
def test_debug_mode_refuses_coroutines(any_loop, method):
    async def coroutine():
        pass

    made = coroutine()
    any_loop.set_debug(True)
    with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
        call(any_loop, method, coroutine)
    with pytest.raises(TypeError, match="coroutines cannot be used with call_"):
        call(any_loop, method, made)
    made.close()


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_calls_of_other_threads(any_loop, method):
    any_loop.set_debug(True)
    failures = []

    def other():
        try:
            call(any_loop, method, print)
        except RuntimeError as error:
            failures.append(str(error))
        any_loop.call_soon_threadsafe(any_loop.stop)

    thread = threading.Thread(target=other)
    any_loop.call_soon(thread.start)
    any_loop.run_forever()
    thread.join()
    assert failures == [
        "Non-thread-safe operation invoked on an event loop other than the current one"
    ]


def test_handles_pass_for_asyncios(loop):
    plain, timer = loop.call_soon(print, 1), loop.call_later(1, print, 2)
    assert isinstance(plain, asyncio.Handle) and not isinstance(plain, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.Handle) and isinstance(timer, asyncio.TimerHandle)
    assert weakref.ref(plain)() is plain and hash(timer) == hash(timer)
    assert plain._args == (1,) and timer._callback is print and plain._loop is loop
    assert timer.when() == timer._when and timer._scheduled
    assert repr(plain) == repr(asyncio.Handle(print, (1,), loop))
    assert repr(timer) == repr(asyncio.TimerHandle(timer.when(), print, (2,), loop))
    plain.cancel()
    timer.cancel()
    assert repr(plain) == "<Handle cancelled>" and not timer._scheduled
    with pytest.raises(TypeError):
        type(plain)()


def test_timer_handles_are_ordered_by_their_time(loop):
    early, late = loop.call_at(1, print), loop.call_at(2, print)
    assert early < late and late > early and early <= early and early != late
    assert sorted([late, early]) == [early, late]
    with pytest.raises(TypeError):
        assert early < 1
    early.cancel()
    late.cancel()


def test_a_handle_shows_where_it_was_made_in_debug_mode(loop):
    loop.set_debug(True)
    handle = loop.call_soon(print)
    assert f"created at {__file__}:" in repr(handle)
    shown = repr(handle)
    handle.cancel()
    assert repr(handle) == shown


def test_a_handle_can_be_run_by_hand_and_outlives_its_loop(loop):
    got = []
    handle = loop.call_soon(got.append, 1)
    handle._run()
    assert got == [1]
    handle.cancel()
    handle._run()
    timer = loop.call_later(1000, print)
    loop.close()
    timer.cancel()
    assert got == [1] and timer.cancelled()


def test_a_long_chain_of_handles_is_freed_without_running_out_of_stack(loop):
    for method in ["call_soon", "call_later"]:
        handle = None
        for _ in range(100_000):
            handle = loop.call_later(1e6, print, handle) if method == "call_later" else (
                loop.call_soon(print, handle)
            )
        del handle
    loop.close()


def test_handles_leave_no_memory_behind(loop):
    def cycle():
        handle = loop.call_soon(lambda: handle, 1, 2, 3, 4)
        handle.cancel()
        other = loop.call_later(1e6, lambda: other)
        kept = loop.call_soon(lambda: kept)
        turn(loop)
        other.cancel()

    for _ in range(300):
        cycle()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(300):
        cycle()
    gc.collect()
    assert sys.getallocatedblocks() - before < 50


def test_a_subclass_has_to_call_its_parent():
    class Loop(tepal.Loop):
        def __init__(self, name):
            self.name = name
            if name:
                super().__init__()

    loop = Loop("name")
    loop.attribute = weakref.ref(loop)
    assert loop.attribute() is loop and isinstance(loop, asyncio.AbstractEventLoop)
    loop.close()
    unfinished = Loop("")
    with pytest.raises(RuntimeError, match="not initialised"):
        unfinished.call_soon(print)
    with pytest.raises(RuntimeError, match="not initialised"):
        unfinished.run_forever()
