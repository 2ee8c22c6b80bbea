"""Interpreters that end, fork or are interrupted with anything active: no crash, no hang, no words of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .sampling import SEED, SHARE, drawn

TESTS = Path(__file__).parents[1]

# What a program may have going when it ends; each is kept by a global.
ACTIVE = {
    "server": "kept = loop.run_until_complete(loop.create_server(asyncio.Protocol, '127.0.0.1', 0))",
    "stream": "kept = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=a))",
    "buffered": "kept = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=a)); kept[0].write(bytes(9 << 20))",
    "stack": "kept = loop.connect(tepal.Protocol, sock=a, layers=[tepal.Lines()]); loop.run_until_complete(kept.established())",
    "reaching": "kept = loop.connect(tepal.Protocol, 'localhost', 1, backoff=tepal.Backoff()); loop.run_until_complete(asyncio.sleep(0))",
    "datagrams": "kept = loop.run_until_complete(loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0)))",
    "pipe": "kept = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, os.fdopen(os.pipe()[0], 'rb', 0)))",
    "write pipe": (
        "ends = os.pipe()\n"
        "kept = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, os.fdopen(ends[1], 'wb', 0)))\n"
        "kept[0].write(bytes(9 << 20))"
    ),
    "terminal": (
        "ends = os.openpty(); terminal = os.fdopen(ends[0], 'wb', 0)\n"
        "kept = loop.run_until_complete(loop.connect_read_pipe(asyncio.Protocol, terminal))\n"
        "writes = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, terminal))"
    ),
    "child with pipes": (
        "kept = loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, 'sleep', '0.2'))\n"
        "kept[0].get_pipe_transport(0).write(bytes(9 << 20))"
    ),
    "child": "kept = loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, 'sleep', '0.2', stdin=None, stdout=None, stderr=None))",
    "tls": (
        "from tls.peers import client_context, server_context\n"
        "served = loop.create_task(loop.connect_accepted_socket(asyncio.Protocol, b, ssl=server_context()))\n"
        "made = loop.create_connection(asyncio.Protocol, sock=a, ssl=client_context(), server_hostname='server.test')\n"
        "kept = loop.run_until_complete(made), loop.run_until_complete(served)"
    ),
    "handshake": (
        "from tls.peers import client_context\n"
        "made = loop.create_connection(asyncio.Protocol, sock=a, ssl=client_context(), server_hostname='server.test')\n"
        "kept = loop.create_task(made); loop.run_until_complete(asyncio.sleep(0.01))"
    ),
    "task": "kept = loop.create_task(asyncio.sleep(1000)); loop.run_until_complete(asyncio.sleep(0))",
    "lookup": "kept = loop.create_task(loop.getaddrinfo('name.invalid', 1)); loop.run_until_complete(asyncio.sleep(0))",
    "executor": "kept = loop.run_in_executor(None, time.sleep, 0.1)",
    "generator": (
        "async def numbers():\n"
        "    try:\n"
        "        yield 1\n"
        "    finally:\n"
        "        await asyncio.sleep(0)\n"
        "kept = numbers(); loop.run_until_complete(anext(kept))"
    ),
    "signal": "loop.add_signal_handler(signal.SIGUSR1, print, loop); loop.run_until_complete(asyncio.sleep(0))",
    "timers": "kept = [loop.call_later(1000, print, loop), loop.timer(1000, print)]; kept[1].start()",
    "__del__": (
        "class Ends:\n"
        "    def __del__(self, loop=loop):\n"
        "        loop.call_soon(int); loop.call_later(1, int); loop.call_soon_threadsafe(int)\n"
        "        raise ZeroDivisionError('on purpose')\n"
        "kept = Ends(); loop.kept = kept; loop.call_later(1000, id, kept)"
    ),
    "weak reference": (
        "class Thing: pass\n"
        "kept = Thing(); reference = weakref.ref(kept, lambda _: loop.is_closed() or loop.call_soon(int))\n"
        "loop.call_later(1000, id, kept)"
    ),
}

# How it ends.
WAYS = {
    "at the end": "",
    "exit": "sys.exit(3)",
    "exit in a callback": "loop.call_soon(sys.exit, 3); loop.run_forever()",
    "error": "raise ZeroDivisionError('on purpose')",
    "at once": "sys.stdout.flush(); os._exit(3)",
    "atexit uses it": "atexit.register(lambda: loop.run_until_complete(asyncio.sleep(0.001)))",
    "atexit closes it": "atexit.register(loop.close)",
    "in a daemon thread": "threading.Thread(target=loop.run_forever, daemon=True).start(); time.sleep(0.01)",
    "names deleted": "del loop, a, b; kept = None; gc.collect()",
    "closed": "loop.close()",
    "forked": "pid = os.fork(); pid and os.waitpid(pid, 0)",
    "forked within": "loop.call_soon(os.fork); loop.call_later(0.01, loop.stop); loop.run_forever()",
}

BEGIN = """
import asyncio, atexit, gc, os, signal, socket, sys, threading, time, warnings, weakref
sys.path[:0] = [sys.argv[1]]
import tepal
loop = tepal.new_event_loop()
loop.set_debug(False)
a, b = socket.socketpair()
"""

# What Python and asyncio say of what was left open or pending, or was raised on purpose.
EXPECTED = (
    "ResourceWarning", "unclosed", "on purpose", "was destroyed but it is pending", "never awaited",
    "Event loop is closed",
)  # fmt: skip
NEVER = ("panicked", "PanicException", "tepal has a bug", "Fatal Python error", "Segmentation", "Debug memory", "SystemError")

CASES = [(thing, way) for thing in ACTIVE for way in WAYS]


@pytest.mark.parametrize(("thing", "way"), drawn(CASES, 24))
def test_an_interpreter_ends_well(thing, way):
    code = f"{BEGIN}{ACTIVE[thing]}\n{WAYS[way]}\n"
    command = [sys.executable, "-X", "dev", "-c", code, str(TESTS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert not [word for word in NEVER if word in ended.stderr], ended.stderr
    status = {"exit": 3, "exit in a callback": 3, "at once": 3, "error": 1}.get(way, 0)
    # The forked child of a loop that runs hears that it is the parent's.
    assert ended.returncode == status, (ended.returncode, ended.stderr)


FORKING = """
import asyncio, multiprocessing, os, subprocess, sys, warnings
import tepal
warnings.simplefilter("ignore", DeprecationWarning)  # Of a fork with threads.

async def answer(value):
    await asyncio.sleep(0.001)
    return value

def work(pipe):
    # asyncio tells a forked child that a loop runs, unless it has another process number.
    pipe.send(tepal.run(answer(os.getpid())))

async def main(way):
    # On a busy machine a process takes long to start, and debug mode would tell so.
    asyncio.get_running_loop().slow_callback_duration = 60
    context = multiprocessing.get_context(way)
    ours, theirs = context.Pipe()
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 60.0  # A child takes as long as the machine is busy.
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    process = context.Process(target=work, args=(theirs,))
    process.start()
    while not ours.poll():
        await asyncio.sleep(0.001)
    assert ours.recv() == process.pid
    process.join()
    assert process.exitcode == 0
    server.close()
    return "well"

if __name__ == "__main__":
    print(tepal.run(main(sys.argv[1])))
"""


@pytest.mark.parametrize("way", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_have_loops_of_their_own(tmp_path, way):
    script = tmp_path / "script.py"
    script.write_text(FORKING)
    command = [sys.executable, "-X", "dev", "-W", "error", str(script), way]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("well\n", "", 0)


def test_a_function_before_exec_leaves_the_loop_alone(program):
    code = """
import asyncio, os, sys, tepal
async def main():
    loop = asyncio.get_running_loop()
    seen = []
    loop.call_later(0.001, seen.append, 1)
    for _ in range(3):
        child = await asyncio.create_subprocess_exec("true", preexec_fn=lambda: loop.is_closed() or os._exit(9))
        print(await child.wait())
    await asyncio.sleep(0.002)
    print(seen)
tepal.run(main())
"""
    ended = program(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("0\n0\n0\n[1]\n", "", 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 an extension is not asked about its interpreters")
def test_another_interpreter_hears_an_import_error(program):
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = f"""
import {module} as interpreters, tepal
made = interpreters.create()
told = "try:\\n import tepal\\nexcept ImportError as error:\\n print('ImportError', bool(str(error)), flush=True)"
interpreters.run_string(made, told)
interpreters.destroy(made)
print(tepal.run(__import__("asyncio").sleep(0, "well")))
"""
    ended = program(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ImportError True\nwell\n", "", 0)


INTERRUPTED = """
import asyncio, random, signal, sys, tepal
random.seed(sys.argv[1])
# Whoever starts the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
loop = tepal.new_event_loop()
loop.set_debug(False)
loop.set_exception_handler(lambda loop, context: None)

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def talk(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        for _ in range(20):
            writer.write(b"x" * random.randrange(1, 100_000))
            await writer.drain()
            await reader.read(1 << 16)
    finally:
        writer.close()

async def main(server):
    address = server.sockets[0].getsockname()
    while True:
        await asyncio.gather(*[talk(address) for _ in range(3)], loop.getaddrinfo("localhost", 1))

def calmly(what):
    # The interrupt leaves the run again with each task that awaits the one it was in.
    while True:
        try:
            return what()
        except KeyboardInterrupt:
            pass

def tidy():
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(asyncio.sleep(0))

server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
armed = False

def interrupt(*_):
    # Signals are looked at in calls and loops. So none gets between the lines that end a round, which
    # have neither, however late it comes: one that left the program would end it by the next alarm.
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
count = 0
for _ in range(int(sys.argv[2])):
    task = loop.create_task(main(server))
    try:
        armed = True
        # Repeated, since one that comes in a finalizer is lost.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.01), 0.02)
        loop.run_until_complete(task)
        armed = False
    except KeyboardInterrupt:
        armed = False
        count += 1
    except OSError:
        armed = False  # A connection of an earlier round.
    signal.setitimer(signal.ITIMER_REAL, 0)
    calmly(tidy)
calmly(tidy)
# It runs again, and knows what time it is.
assert loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.001, "well"), 5)) == "well"
print("interrupted" if count else "never interrupted")
"""


@pytest.mark.parametrize("part", range(3 if not SHARE else 30))
def test_a_loop_that_was_interrupted_anywhere_runs_again(part):
    command = [sys.executable, "-X", "dev", "-c", INTERRUPTED, f"{SEED}.{part}", "60"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert not [word for word in NEVER if word in ended.stderr], ended.stderr
    assert (ended.stdout, ended.returncode) == ("interrupted\n", 0), f"seed {SEED}.{part}: {ended.stderr[-3000:]}"


MANY = """
import asyncio, socket, sys, threading, tepal
threads, connections = map(int, sys.argv[1:])
made = [tepal.new_event_loop() for _ in range(threads)]
for loop in made:
    loop.set_debug(False)
heard = [0] * threads
barrier = threading.Barrier(threads)
failed = []

def hear(number):
    heard[number] += 1

async def main(number):
    loop = made[number]
    async def serve(reader, writer):
        writer.write(await reader.read(10))
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for begun in range(0, connections, 10):
        async def one():
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x")
            assert await reader.read() == b"x"
            writer.close()
            await writer.wait_closed()
        await asyncio.gather(*[one() for _ in range(10)])
        for other in range(threads):
            made[other].call_soon_threadsafe(hear, other)
    server.close()
    await loop.run_in_executor(None, barrier.wait)
    await asyncio.sleep(0)

def run(number):
    try:
        made[number].run_until_complete(main(number))
        made[number].run_until_complete(made[number].shutdown_default_executor())
    except BaseException as error:
        failed.append(repr(error))
        barrier.abort()

workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
# Made here, run there, closed elsewhere.
closer = threading.Thread(target=lambda: [loop.close() for loop in made])
closer.start(); closer.join()
print(failed, sum(heard) == threads * threads * ((connections + 9) // 10))
"""


def test_many_loops_in_many_threads(program):
    connections = "500" if SHARE else "40"
    ended = program(MANY, "16", connections, timeout=300)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("[] True\n", "", 0)
