"""Details that other people's programs and tests look at: asyncio's loop is the judge of each."""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


def refused_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_refused_connection_leaves_no_cycle_around_its_exception(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[Any]:
        caught = None
        try:
            await any_loop.create_connection(asyncio.Protocol, "127.0.0.1", refused_port())
        except OSError as error:
            caught = error
        await asyncio.sleep(0)  # The future of the attempt is still somewhere in this turn.
        # From 3.14 on this coroutine, too, is shown to hold it.
        return [type(it) for it in gc.get_referrers(caught) if not inspect.iscoroutine(it)]

    assert any_loop.run_until_complete(main()) == []


def test_a_timer_handle_that_was_made_by_hand_can_be_cancelled(any_loop: asyncio.AbstractEventLoop) -> None:
    handle = asyncio.TimerHandle(any_loop.time() + 60, print, (), any_loop)
    handle._scheduled = True  # type: ignore[attr-defined]
    handle.cancel()
    assert handle.cancelled()


def test_a_signal_handler_that_is_a_coroutine_is_told_so(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None: ...

    coroutine = main()
    for wrong in (main, coroutine):
        with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
            any_loop.add_signal_handler(signal.SIGUSR1, wrong)  # type: ignore[arg-type]
    coroutine.close()


@pytest.mark.parametrize("factory", ["asyncio.SelectorEventLoop", "tepal.new_event_loop"])
def test_a_loop_with_signal_handlers_can_be_closed_by_the_dying_interpreter(
    factory: str, program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = program(
        "import asyncio, signal, sys, tepal\n"
        f"loop = {factory}()\n"
        "loop.add_signal_handler(signal.SIGUSR1, print)\n"
        "class Last:\n"
        "    def __del__(self, loop=loop, told=sys.stderr):\n"
        "        loop.close()\n"
        "        print('closed', loop.is_closed(), file=told)\n"
        # Modules are taken down after the interpreter is marked as finalizing.
        "sys.modules['last'] = Last()\n"
        "sys.warnoptions.clear()\n"
        "import warnings; warnings.simplefilter('always')\n"
    )
    assert done.returncode == 0, done.stderr
    if factory.startswith("tepal"):  # asyncio's trips over a module that is gone, in 3.13.
        assert "closed True" in done.stderr
    assert "skipping signal handlers removal" in done.stderr


def test_tasks_and_futures_are_of_the_classes_that_asyncio_has_now(
    any_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nest_asyncio and CPython's own tests put the ones written in Python there.
    class Task(asyncio.Task):  # type: ignore[type-arg]
        pass

    class Future(asyncio.Future):  # type: ignore[type-arg]
        pass

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    tasks = [any_loop.create_task(asyncio.sleep(0)), any_loop.create_task(asyncio.sleep(0), name="named")]
    assert [type(task) for task in tasks] == [Task, Task]
    assert type(any_loop.create_future()) is Future
    any_loop.run_until_complete(asyncio.wait(tasks))


@pytest.mark.skipif(sys.version_info < (3, 14), reason="until 3.14 cancel() never waits")
def test_a_handle_of_another_thread_answers_when_its_callback_has_returned(any_loop: asyncio.AbstractEventLoop) -> None:
    entered, asked, answers = threading.Event(), threading.Event(), []

    def callback() -> None:
        entered.set()
        asked.wait(10)
        # This thread's own questions are answered at once.
        assert not handle.cancelled()
        answers.append("returned")

    def other() -> None:
        nonlocal handle
        handle = any_loop.call_soon_threadsafe(callback)
        assert isinstance(handle, asyncio.events._ThreadSafeHandle)  # type: ignore[attr-defined]
        entered.wait(10)
        threading.Timer(0.05, asked.set).start()
        handle.cancel()
        answers.append(f"cancelled {handle.cancelled()}")
        any_loop.call_soon_threadsafe(any_loop.stop)

    handle: Any = None
    thread = threading.Thread(target=other)
    thread.start()
    any_loop.run_forever()
    thread.join()
    assert answers == ["returned", "cancelled True"]


def test_a_signal_is_heard_also_where_the_program_has_taken_its_disposition(any_loop: asyncio.AbstractEventLoop) -> None:
    # uvicorn does so while it serves, and raises the signal again at the end.
    heard, own = [], []
    any_loop.add_signal_handler(signal.SIGUSR1, heard.append, "callback")
    ours = signal.signal(signal.SIGUSR1, lambda *_: own.append("handler"))

    async def main() -> None:
        signal.raise_signal(signal.SIGUSR1)
        while not heard:
            await asyncio.sleep(0)

    any_loop.run_until_complete(asyncio.wait_for(main(), 10))
    signal.signal(signal.SIGUSR1, ours)
    assert (heard, own) == (["callback"], ["handler"])
    any_loop.run_until_complete(asyncio.sleep(0))
    assert heard == ["callback"]
    any_loop.remove_signal_handler(signal.SIGUSR1)


def test_datagrams_are_sent_until_the_connection_is_lost(any_loop: asyncio.AbstractEventLoop) -> None:
    class Closing(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.errors: list[Exception] = []
            self.lost = any_loop.create_future()

        def error_received(self, exc: Exception) -> None:
            self.errors.append(exc)
            transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        making = any_loop.create_datagram_endpoint(Closing, local_addr=("127.0.0.1", 0))
        transport, protocol = any_loop.run_until_complete(making)
        too_long = bytes(70_000)
        transport.sendto(too_long, peer.getsockname())
        assert transport.is_closing()
        transport.sendto(too_long, peer.getsockname())
        transport.sendto(b"last words", peer.getsockname())
        assert len(protocol.errors) == 2
        assert any_loop.run_until_complete(protocol.lost) is None
        assert peer.recv(100) == b"last words"


def test_every_parameter_has_asyncios_name_and_default() -> None:
    flexible = inspect.Parameter.POSITIONAL_OR_KEYWORD
    # Native and named by hand: they take the names, which text signatures cannot say.
    by_hand = {"call_soon", "call_soon_threadsafe", "call_later", "call_at"}
    for name, method in inspect.getmembers(asyncio.SelectorEventLoop, inspect.isfunction):
        if name.startswith("_") or name in by_hand:
            continue
        ours = inspect.signature(getattr(tepal.Loop, name)).parameters
        takes_any = any(it.kind is inspect.Parameter.VAR_KEYWORD for it in ours.values())
        for parameter in list(inspect.signature(method).parameters.values())[1:]:
            if parameter.name in ours:
                own = ours[parameter.name]
                assert own.kind in (parameter.kind, flexible), (name, parameter)
                assert own.default == parameter.default, (name, parameter)
            else:
                assert takes_any, (name, parameter)


def test_the_calls_of_a_loop_take_their_arguments_by_name(any_loop: asyncio.AbstractEventLoop) -> None:
    called: list[str] = []

    def callback() -> None:
        called.append("once")

    any_loop.call_soon(callback=callback)
    any_loop.call_soon_threadsafe(callback=callback)
    any_loop.call_later(delay=0, callback=callback)
    any_loop.call_at(when=any_loop.time(), callback=callback)
    any_loop.set_debug(enabled=False)
    any_loop.set_task_factory(factory=None)
    assert any_loop.remove_reader(fd=0) is False and any_loop.remove_writer(fd=0) is False
    any_loop.run_until_complete(asyncio.sleep(0.01))
    assert called == ["once"] * 4


def test_what_programs_read_beside_asyncios_interface_is_there(any_loop: asyncio.AbstractEventLoop) -> None:
    ours, theirs = socket.socketpair()
    making = any_loop.create_connection(asyncio.Protocol, sock=ours)
    transport: Any
    transport, _ = any_loop.run_until_complete(making)
    any_loop.run_until_complete(asyncio.sleep(0))
    seen = [transport._paused]
    transport.pause_reading()
    seen.append(transport._paused)
    transport.resume_reading()
    seen.append(transport._paused)
    transport.close()
    theirs.close()
    any_loop.run_until_complete(asyncio.sleep(0))
    loop: Any = any_loop
    seen.append(loop._closed)
    any_loop.close()
    assert [*seen, loop._closed] == [False, True, False, False, True]


def test_an_open_transport_at_the_close_of_a_loop_is_told_in_asyncios_words() -> None:
    loop = tepal.new_event_loop()
    ours, theirs = socket.socketpair()
    with theirs, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        loop.close()
        assert [str(it.message) for it in told if "unclosed transport: 1, when" in str(it.message)]
        del transport


def test_that_warning_as_an_error_does_not_leave_close(
    program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = program(
        "import asyncio, socket, tepal\n"
        "loop = tepal.new_event_loop()\n"
        "ours, theirs = socket.socketpair()\n"
        "kept = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))\n"
        "loop.close()\n"
        "theirs.close()\n"
        "print('closed', loop.is_closed())\n"
    )
    assert done.stdout == "closed True\n", done.stderr
    assert "unclosed transport: 1" in done.stderr


def test_a_signal_that_comes_just_before_a_run_is_not_slept_through(bare_loop: tepal.Loop) -> None:
    late: list[int] = []
    bare_loop.add_signal_handler(signal.SIGALRM, bare_loop.stop)
    for number in range(600):
        timer = bare_loop.call_later(5, lambda number=number: (late.append(number), bare_loop.stop()))
        # Up to 40 us from now: before the run, while it begins, or within it.
        signal.setitimer(signal.ITIMER_REAL, (number % 200 + 1) * 2e-7)
        bare_loop.run_forever()
        timer.cancel()
        if late:
            break
    bare_loop.remove_signal_handler(signal.SIGALRM)
    assert late == []
