"""Costs inside a loop: `micro.py LOOP ROW` prints nanoseconds of CPU for one operation.

CPU time of the process, user and system; of its children too where the row starts some.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import loops

Loop = asyncio.AbstractEventLoop


def spent(children: bool) -> int:
    own = os.times()
    others = own.children_user + own.children_system if children else 0.0
    return time.process_time_ns() + int(others * 1e9)


def call_soon(loop: Loop) -> int:
    many = left = 300_000

    def again() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(again)
        else:
            loop.stop()

    loop.call_soon(again)
    loop.run_forever()
    return many


def call_later(loop: Loop) -> int:
    many = 200_000

    async def main() -> None:
        def nothing() -> None:
            pass

        for index in range(many):
            loop.call_later(60 + index % 7, nothing).cancel()
            if not index % 1000:
                await asyncio.sleep(0)

    loop.run_until_complete(main())
    return many


def call_later_at_once(loop: Loop) -> int:
    """Without a turn between the calls: how a loop keeps timers that are gone."""
    many = 200_000

    def nothing() -> None:
        pass

    def main() -> None:
        for index in range(many):
            loop.call_later(60 + index % 7, nothing).cancel()
        loop.stop()

    loop.call_soon(main)
    loop.run_forever()
    return many


def wait_for(loop: Loop) -> int:
    many = 40_000

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(many):
            await asyncio.wait_for(nothing(), 10)

    loop.run_until_complete(main())
    return many


def sleep_zero(loop: Loop) -> int:
    many = 200_000

    async def main() -> None:
        for _ in range(many):
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    return many


def create_task(loop: Loop) -> int:
    many = 60_000

    async def nothing() -> None:
        pass

    async def main() -> None:
        for _ in range(many):
            await loop.create_task(nothing())

    loop.run_until_complete(main())
    return many


def gather(loop: Loop) -> int:
    many = 60_000

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(many // 1000):
            await asyncio.gather(*[nothing() for _ in range(1000)])

    loop.run_until_complete(main())
    return many


def future(loop: Loop) -> int:
    many = 100_000

    async def main() -> None:
        for _ in range(many):
            waiting = loop.create_future()
            loop.call_soon(waiting.set_result, None)
            await waiting

    loop.run_until_complete(main())
    return many


def queue(loop: Loop) -> int:
    many = 40_000

    async def answer(asked: asyncio.Queue[int], answers: asyncio.Queue[int]) -> None:
        while True:
            await answers.put(await asked.get())

    async def main() -> None:
        asked: asyncio.Queue[int] = asyncio.Queue()
        answers: asyncio.Queue[int] = asyncio.Queue()
        task = loop.create_task(answer(asked, answers))
        for index in range(many):
            await asked.put(index)
            await answers.get()
        task.cancel()

    loop.run_until_complete(main())
    return many


def event(loop: Loop) -> int:
    many = 60_000

    async def main() -> None:
        raised = asyncio.Event()
        for _ in range(many):
            loop.call_soon(raised.set)
            await raised.wait()
            raised.clear()

    loop.run_until_complete(main())
    return many


def executor(loop: Loop) -> int:
    many = 4_000

    def nothing() -> None:
        pass

    async def main() -> None:
        for _ in range(many):
            await loop.run_in_executor(None, nothing)

    loop.run_until_complete(main())
    return many


def sock(loop: Loop) -> int:
    many = 20_000

    async def answer(end: socket.socket) -> None:
        while data := await loop.sock_recv(end, 4096):
            await loop.sock_sendall(end, data)

    async def main() -> None:
        ours, other = socket.socketpair()
        ours.setblocking(False)
        other.setblocking(False)
        task = loop.create_task(answer(other))
        for _ in range(many):
            await loop.sock_sendall(ours, b"x" * 1024)
            await loop.sock_recv(ours, 4096)
        ours.close()
        await task

    loop.run_until_complete(main())
    return many


def unix(loop: Loop) -> int:
    many = 20_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            server = await asyncio.start_unix_server(answer, directory + "/s")
            reader, writer = await asyncio.open_unix_connection(directory + "/s")
            for _ in range(many):
                writer.write(b"x" * 1024)
                await reader.readexactly(1024)
            writer.close()
            server.close()

    loop.run_until_complete(main())
    return many


def churn(loop: Loop) -> int:
    many = 3_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(many):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await reader.read()
        server.close()

    loop.run_until_complete(main())
    return many


def idle(loop: Loop) -> int:
    """What a second of sleep costs."""
    loop.call_later(1, loop.stop)
    loop.run_forever()
    return 1


def call_soon_threadsafe(loop: Loop) -> int:
    many, done = 200_000, 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == many:
            loop.stop()

    def work() -> None:
        for _ in range(many):
            loop.call_soon_threadsafe(count)

    thread = threading.Thread(target=work)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    return many


def getaddrinfo(loop: Loop) -> int:
    many = 4_000

    async def main() -> None:
        for _ in range(many):
            await loop.getaddrinfo("localhost", 80, type=1)

    loop.run_until_complete(main())
    return many


def subprocess(loop: Loop) -> int:
    many = 200

    async def main() -> None:
        for _ in range(many):
            process = await asyncio.create_subprocess_exec("/bin/true")
            await process.wait()

    loop.run_until_complete(main())
    return many


def pipe(loop: Loop) -> int:
    many = 50_000

    async def main() -> None:
        reader, writer = os.pipe()
        done = loop.create_future()
        message = b"x" * 1024

        class Pong(asyncio.Protocol):
            left = many

            def data_received(self, data: bytes) -> None:
                self.left -= 1
                if self.left:
                    to.write(message)
                else:
                    done.set_result(None)

        to, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writer, "wb", 0))
        since, _ = await loop.connect_read_pipe(Pong, os.fdopen(reader, "rb", 0))
        to.write(message)
        await done
        to.close()
        since.close()

    loop.run_until_complete(main())
    return many


def pipe_streams(loop: Loop) -> int:
    many = 20_000

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
        assert process.stdin and process.stdout
        for _ in range(many):
            process.stdin.write(b"x" * 1024)
            await process.stdout.readexactly(1024)
        process.stdin.close()
        await process.wait()

    loop.run_until_complete(main())
    return many


def communicate(loop: Loop) -> int:
    many = 200

    async def main() -> None:
        for _ in range(many):
            process = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
            await process.communicate(b"x" * 1024)

    loop.run_until_complete(main())
    return many


def import_time(loop: Loop) -> int:
    raise AssertionError("measured by the runner")


ROWS: dict[str, Callable[[Loop], int]] = {
    row.__name__: row
    for row in [
        call_soon, call_later, call_later_at_once, wait_for, call_soon_threadsafe, getaddrinfo, subprocess,
        sleep_zero, create_task, gather, future, queue, event, executor, sock, unix, churn, idle,
        pipe, pipe_streams, communicate,
    ]
}


def main() -> None:
    name, row = sys.argv[1:]
    children = not row.endswith("_parent")
    row = row.removesuffix("_parent")
    if row == "import":
        # Beyond asyncio's, which every program on such a loop imports too.
        import asyncio as _  # noqa: F401

        before = spent(children)
        loops.factory(name)
        print((spent(children) - before) / 1)
        return
    loop: Any = loops.factory(name)()
    asyncio.set_event_loop(loop)
    before = spent(children)
    many = ROWS[row](loop)
    after = spent(children)
    print((after - before) / many)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
