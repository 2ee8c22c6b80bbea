"""Programs in which one allocation of the interpreter's fails, each in a process of its own.

A program may end with MemoryError or with a lost connection, or go on. It may not hang, nor crash.
`python nomemory.py SCENE FIRST STEP` prints what was wrong, and how many programs ended in which way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import _testcapi  # type: ignore[import-not-found]

from tls.peers import client_context, server_context

import tepal

# A program takes some milliseconds.
LIMIT = 5

Arm = Callable[[], None]


class Echo(asyncio.Protocol):
    """Writes what it reads."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def echo(loop: Any, arm: Arm) -> None:
    """A transport, and `sock_recv` and its kin, on one connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        transport, _ = await loop.create_connection(Echo, sock=theirs)
        arm()
        for _ in range(3):
            await loop.sock_sendall(ours, b"x" * 100)
            if not await loop.sock_recv(ours, 1000):
                raise ConnectionError
            transport.writelines([b"a", b"b"])
            await loop.sock_recv(ours, 1000)
        transport.close()


async def streams(loop: Any, arm: Arm) -> None:
    """asyncio's streams."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                while line := await reader.readline():
                    writer.write(line)
                    await writer.drain()
            finally:
                writer.close()

    arm()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            for _ in range(3):
                writer.write(b"line\n")
                await writer.drain()
                if not await reader.readline():
                    raise ConnectionError
        finally:
            writer.close()
        await writer.wait_closed()
    finally:
        server.close()


async def timers(loop: Any, arm: Arm) -> None:
    """Sleeps, limits, timers of the loop's own."""
    arm()
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(1e-6)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 1e-6)
        called = loop.create_future()
        loop.call_later(1e-6, called.set_result, None)
        await called
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(1e-6))


async def threads(loop: Any, arm: Arm) -> None:
    """A thread that calls into the loop."""
    told = [loop.create_future() for _ in range(4)]

    def tell() -> None:
        # A thread has nobody to tell that it found no memory.
        count = 0
        while count < len(told):
            try:
                if count == 1:
                    arm()
                loop.call_soon_threadsafe(told[count].set_result, None)
                count += 1
            except MemoryError:
                pass

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        for future in told:
            await future
    finally:
        _testcapi.remove_mem_hooks()
        thread.join()


async def children(loop: Any, arm: Arm) -> None:
    """A child process, and what it prints."""
    arm()
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        await process.communicate(b"x" * 1000)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def secured(loop: Any, arm: Arm) -> None:
    """TLS from one end to the other."""
    contexts = client_context(), server_context()
    ours, theirs = socket.socketpair()

    async def accept() -> None:
        try:
            await loop.connect_accepted_socket(Echo, theirs, ssl=contexts[1])
        except BaseException:
            theirs.close()
            raise

    accepting = loop.create_task(accept())
    try:
        arm()
        reader, writer = await asyncio.open_connection(sock=ours, ssl=contexts[0], server_hostname="server.test")
        try:
            writer.write(b"line\n")
            if not await reader.readline():
                raise ConnectionError
        finally:
            writer.close()
        await writer.wait_closed()
    finally:
        accepting.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError, MemoryError):
            await accepting


SCENES = {scene.__name__: scene for scene in (echo, streams, timers, threads, children, secured)}


def attempt(factory: Callable[[], Any], scene: str, count: int) -> str:
    """How the program ends whose allocation number `count` fails."""
    loop = factory()
    loop.set_debug(False)
    loop.set_exception_handler(lambda *_: None)
    outcome = "went on"
    try:
        loop.run_until_complete(SCENES[scene](loop, lambda: _testcapi.set_nomemory(count, count + 1)))
    except MemoryError:
        outcome = "MemoryError"
    except (OSError, EOFError) as error:
        _testcapi.remove_mem_hooks()
        outcome = "lost" if isinstance(error, (ConnectionError, EOFError)) else f"WRONG {error!r}"
    except (RuntimeError, SystemError):
        # The interpreter's own code is not free of mistakes: an error without an exception, a coroutine
        # that is closed halfway, a task's step that had begun.
        outcome = "confused"
    except BaseException as error:
        _testcapi.remove_mem_hooks()
        outcome = f"WRONG {error!r}"
    _testcapi.remove_mem_hooks()
    with contextlib.suppress(MemoryError):
        loop.run_until_complete(asyncio.sleep(0))
    return outcome


def apart(factory: Callable[[], Any], scene: str, count: int) -> str:
    """The same in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:

        def hangs(*_: object) -> None:
            os.write(writing, stuck_because().encode())
            os._exit(0)

        signal.signal(signal.SIGALRM, hangs)
        signal.alarm(LIMIT)
        os.write(writing, attempt(factory, scene, count).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        if not select.select([file], [], [], 3 * LIMIT)[0]:
            os.kill(child, signal.SIGKILL)
        outcome = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"WRONG status {status}" if status else outcome


def stuck_because() -> str:
    """Whose fault a hang is.

    The interpreter's, if a task waits for a future that has its result: on 3.11 `set_result` allocates a
    bound method of the loop's before it calls that, and forgets the callbacks if there is no memory.
    """
    waits = [getattr(task, "_fut_waiter", None) for task in asyncio.all_tasks(asyncio._get_running_loop())]
    lost = any(future is not None and future.done() for future in waits)
    return "interpreter" if lost and sys.version_info < (3, 12) else f"WRONG hang {waits}"


def main(scene: str, first: int, step: int, factory: Callable[[], Any] = tepal.new_event_loop) -> None:
    logging.disable()
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    outcomes: Counter[str] = Counter()
    went_on = 0
    for _ in range(3):
        # What is imported and cached on the way.
        attempt(factory, scene, 1_000_000)
    for count in range(first, 100_000, step):
        outcome = apart(factory, scene, count)
        outcomes[outcome.split()[0]] += 1
        if outcome.startswith("WRONG"):
            print(count, outcome, flush=True)
        # The program ends before it has allocated so much.
        went_on = went_on + 1 if outcome == "went on" else 0
        if went_on * step > 300:
            break
    print(dict(outcomes), count)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), asyncio.SelectorEventLoop)
    else:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
