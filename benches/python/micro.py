"""Costs inside a loop: `micro.py LOOP ROW` prints nanoseconds of CPU for one operation.

CPU time of the process, user and system; of its children too where the row starts some.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import loops

Loop = asyncio.AbstractEventLoop


def spent() -> int:
    own = os.times()
    return time.process_time_ns() + int((own.children_user + own.children_system) * 1e9)


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


def wait_for(loop: Loop) -> int:
    many = 40_000

    async def nothing() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(many):
            await asyncio.wait_for(nothing(), 10)

    loop.run_until_complete(main())
    return many


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


def import_time(loop: Loop) -> int:
    raise AssertionError("measured by the runner")


ROWS: dict[str, Callable[[Loop], int]] = {
    "call_soon": call_soon,
    "call_later": call_later,
    "wait_for": wait_for,
    "call_soon_threadsafe": call_soon_threadsafe,
    "getaddrinfo": getaddrinfo,
    "subprocess": subprocess,
}


def main() -> None:
    name, row = sys.argv[1:]
    if row == "import":
        # Beyond asyncio's, which every program on such a loop imports too.
        import asyncio as _  # noqa: F401

        before = spent()
        loops.factory(name)
        print((spent() - before) / 1)
        return
    loop: Any = loops.factory(name)()
    asyncio.set_event_loop(loop)
    before = spent()
    many = ROWS[row](loop)
    after = spent()
    print((after - before) / many)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
