"""Signals, forks, interrupts at any moment, and ends of the interpreter."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


@pytest.fixture
def loop(bare_loop):
    return bare_loop


def test_a_signal_calls_its_handler_on_the_loop(any_loop):
    got = []

    def handler(*args):
        assert any_loop.is_running()
        got.append(args)
        any_loop.stop()

    any_loop.add_signal_handler(signal.SIGUSR1, handler, 1, 2)
    any_loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    any_loop.run_forever()
    assert got == [(1, 2)]
    assert any_loop.remove_signal_handler(signal.SIGUSR1)
    assert not any_loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_signal_wakes_a_loop_that_sleeps(any_loop):
    any_loop.add_signal_handler(signal.SIGUSR1, any_loop.stop)
    sleeps = threading.Event()

    def other():
        sleeps.wait()
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=other)
    thread.start()
    any_loop.call_soon(sleeps.set)
    any_loop.run_forever()
    thread.join()
    any_loop.remove_signal_handler(signal.SIGUSR1)


def test_many_signals_may_count_as_one_and_none_is_lost(loop):
    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGRTMIN, signal.SIGRTMAX]
    seen: set[int] = set()

    def handler(number):
        seen.add(number)
        if len(seen) == len(numbers):
            loop.stop()

    for number in numbers:
        loop.add_signal_handler(number, handler, number)
    for _ in range(300):
        for number in numbers:
            os.kill(os.getpid(), number)
    loop.run_forever()
    assert seen == set(numbers)
    for number in numbers:
        loop.remove_signal_handler(number)


@pytest.mark.parametrize(
    ("number", "callback", "error"),
    [
        ("text", print, TypeError),
        (None, print, TypeError),
        (0, print, ValueError),
        (10_000, print, ValueError),
        (-1, print, ValueError),
        (signal.SIGKILL, print, RuntimeError),
        (signal.SIGSTOP, print, RuntimeError),
        (signal.SIGUSR1, "text", TypeError),
    ],
)
def test_wrong_signals_are_refused(loop, number, callback, error):
    with pytest.raises(error):
        loop.add_signal_handler(number, callback)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_signals_are_for_the_main_thread(any_loop):
    failures = []

    def other():
        try:
            any_loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as error:
            failures.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert failures == ["set_wakeup_fd only works in main thread of the main interpreter"]


def test_the_wake_up_descriptor_of_somebody_else_is_put_back(loop):
    read, write = os.pipe()
    os.set_blocking(write, False)
    old = signal.set_wakeup_fd(write)
    loop.run_until_complete(asyncio.sleep(0))
    assert signal.set_wakeup_fd(old) == write
    os.close(read)
    os.close(write)


def test_closing_a_loop_restores_what_its_signals_do():
    loop = tepal.new_event_loop()
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_raises_ends_the_wait(loop):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Alarm):
        loop.run_forever()
    signal.signal(signal.SIGALRM, old)
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


INTERRUPTED = """
import asyncio, os, random, signal, sys, threading, time, tepal
random.seed(int(sys.argv[1]))
seconds = random.uniform(0.0, 0.03)

async def work():
    async def step():
        await asyncio.sleep(0)
    while True:
        await asyncio.gather(*[step() for _ in range(5)])
        await asyncio.sleep(random.choice([0, 0.0005]))

async def main():
    signal.setitimer(signal.ITIMER_REAL, seconds)
    async with asyncio.timeout(20):
        await asyncio.gather(work(), work())

signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
try:
    tepal.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("seed", range(8))
def test_an_interrupt_at_any_moment_ends_the_program_well(program, seed):
    ended = program(INTERRUPTED, str(seed))
    assert (ended.stdout, ended.stderr, ended.returncode) == ("interrupted\n", "", 0)


FORKED = """
import asyncio, os, sys, tepal
loop = tepal.new_event_loop()
loop.slow_callback_duration = 60.0  # A child takes as long as the machine is busy.
read, write = os.pipe()
loop.add_reader(read, lambda: got.append(os.read(read, 1)))
got = []

def fork():
    child = os.fork()
    if child:
        return child
    try:
        WHAT
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
        os._exit(0)
    os._exit(1)

async def main():
    child = fork()
    assert os.waitpid(child, 0)[1] == 0
    os.write(write, b"x")
    while not got:
        await asyncio.sleep(0)

loop.run_until_complete(main())
loop.remove_reader(read)
loop.close()
os.close(read)
os.close(write)
print("parent ends well")
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("loop.call_soon(print)", "RuntimeError Event loop is closed: it is the parent process's"),
        ("loop.run_forever()", "RuntimeError Event loop is closed: it is the parent process's"),
        ("loop.close(); loop.remove_reader(read); loop.call_soon(print)", "RuntimeError Event loop"),
        ("print(tepal.run(asyncio.sleep(0, 'a loop of its own'))); 1 / 0", "a loop of its own"),
    ],
)
def test_a_forked_child_leaves_the_parents_loop_alone(program, what, told):
    ended = program(FORKED.replace("WHAT", what))
    assert told in ended.stdout and "parent ends well" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_a_child_that_returns_into_the_parents_run_is_told(program):
    code = """
import os, sys, tepal
loop = tepal.new_event_loop()
loop.slow_callback_duration = 60.0  # A child takes as long as the machine is busy.
order = []
def fork():
    if os.fork() == 0:
        return
    os.wait()
    loop.stop()
loop.call_soon(fork)
loop.call_soon(order.append, 1)
try:
    loop.run_forever()
except RuntimeError as error:
    print("child", order, error)
    sys.exit()
print("parent", order)
loop.close()
"""
    ended = program(code)
    assert sorted(line.split()[0] for line in ended.stdout.splitlines()) == ["child", "parent"]
    assert "child [] Event loop is closed" in ended.stdout and "parent [1]" in ended.stdout
    assert (ended.stderr, ended.returncode) == ("", 0)


ACTIVE = """
import asyncio, os, socket, sys, threading, warnings, tepal
warnings.simplefilter("ignore", ResourceWarning)
loop = tepal.new_event_loop()
a, b = socket.socketpair()
loop.add_reader(a, print)
loop.call_later(1000, print, loop)
loop.timer(1000, print).start()
loop.watch(b, tepal.READ, print).start()
loop.call_soon(print, loop)
future = loop.create_future()
future.add_done_callback(print)
handle = loop.call_soon(print, "kept")
"""


@pytest.mark.parametrize(
    "end",
    ["", "sys.exit(0)", "os._exit(0)", "loop = None", "del loop, a, b, future, handle"],
)
def test_an_interpreter_ends_with_anything_active(program, end):
    ended = program(ACTIVE + end)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 0)


def test_an_interpreter_ends_while_a_thread_runs_a_loop(program):
    code = """
import asyncio, threading, tepal
started = threading.Event()
async def main():
    started.set()
    while True:
        await asyncio.sleep(0.0001)
threading.Thread(target=lambda: tepal.run(main()), daemon=True).start()
started.wait()
"""
    ended = program(code)
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_what_the_interpreter_finds_unclosed_at_its_very_end_is_told_and_no_error(program):
    code = """
import asyncio, builtins, gc, socket, warnings, tepal
gc.disable()
warnings.simplefilter("always")
loop = tepal.new_event_loop()
async def main():
    ours, theirs = socket.socketpair()
    await loop.create_connection(asyncio.Protocol, sock=ours)
    return theirs
builtins.kept = loop.run_until_complete(main()), loop
"""
    ended = program(code)
    assert "unclosed event loop" in ended.stderr and "Error" not in ended.stderr
    assert ended.returncode == 0


def test_an_unclosed_loop_is_told(program):
    ended = program("import tepal, sys; loop = tepal.new_event_loop(); loop = None; print('end')")
    assert ended.stdout == "end\n" and "unclosed event loop" in ended.stderr
    assert ended.returncode == 0


def test_a_program_that_takes_the_module_ssl_apart_gets_an_exception(program):
    code = """
import asyncio, socket, ssl, tepal
del ssl.SSLSyscallError
async def main():
    ours, theirs = socket.socketpair()
    theirs.close()
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context()
    try:
        await loop.create_connection(asyncio.Protocol, sock=ours, ssl=context, server_hostname="a")
    except Exception as error:
        print("told", type(error).__name__)
tepal.run(main())
"""
    ended = program(code)
    assert ended.stdout.startswith("told ") and "panic" not in ended.stderr
    assert ended.returncode == 0
