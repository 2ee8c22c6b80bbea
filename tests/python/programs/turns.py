"""Random callbacks, timers, futures and tasks: their order, contexts and cancellations. No I/O, no time."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

from .kit import Kit, told

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=0)


class Turns:
    """One program: what was begun can be cancelled or finished by what comes later."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.loop = kit, asyncio.get_running_loop()
        self.count = 0
        self.handles: list[Any] = []
        self.futures: list[asyncio.Future[Any]] = [self.loop.create_future() for _ in range(4)]
        self.tasks: list[asyncio.Task[Any]] = []
        self.event, self.lock, self.queue = asyncio.Event(), asyncio.Lock(), asyncio.Queue[int](2)

    def note(self, *what: Any) -> None:
        self.kit.note("turns", *what)

    def callback(self, number: int, depth: int) -> None:
        self.note("called", number, VARIABLE.get())
        VARIABLE.set(number)
        for _ in range(self.kit.size(3) if depth else 0):
            self.act(depth - 1)
        if self.kit.chance(0.05):
            raise KeyError(number)

    def act(self, depth: int) -> None:
        self.count += 1
        number, kit = self.count, self.kit
        what = kit.choose("soon", "soon", "threadsafe", "later", "at", "cancel", "result", "error", "callback", "task", "task", "cancel task", "event")
        context = kit.choose(None, contextvars.copy_context(), contextvars.Context())
        if what in ("soon", "threadsafe"):
            call = self.loop.call_soon if what == "soon" else self.loop.call_soon_threadsafe
            self.handles.append(call(self.callback, number, depth, context=context))
        elif what == "later":
            self.handles.append(self.loop.call_later(60, self.callback, number, depth, context=context))
        elif what == "at":
            # In the past, so that all are due at once; none twice, of which asyncio keeps no order.
            when = self.start + number * kit.choose(1e-3, -1e-3)
            self.handles.append(self.loop.call_at(when, self.callback, number, depth, context=context))
        elif what == "cancel" and self.handles:
            handle = kit.choose(*self.handles)
            handle.cancel()
            self.note("cancelled", handle.cancelled())
        elif what in ("result", "error"):
            future = kit.choose(*self.futures)
            try:
                future.set_result(number) if what == "result" else future.set_exception(ValueError(number))
            except asyncio.InvalidStateError as error:
                self.note(what, told(error))
        elif what == "callback":
            kit.choose(*self.futures).add_done_callback(lambda future: self.note("done", number, future.cancelled()), context=context)
        elif what == "task":
            self.tasks.append(self.loop.create_task(self.task(number, depth), name=str(number)))
        elif what == "cancel task" and self.tasks:
            self.note(what, kit.choose(*self.tasks).cancel(kit.choose(None, "why")))
        elif what == "event":
            self.event.set() if kit.chance(0.5) else self.event.clear()

    async def task(self, number: int, depth: int) -> int:
        self.note("task", number, VARIABLE.get())
        try:
            for _ in range(self.kit.size(3) + 1):
                self.note("result", number, repr(await self.wait(depth)))
        except asyncio.CancelledError as error:
            self.note("task cancelled", number, error.args)
            if self.kit.chance(0.3):
                await asyncio.sleep(0)
            if self.kit.chance(0.8):
                raise
        except Exception as error:
            self.note("task failed", number, told(error))
        return number

    async def wait(self, depth: int) -> Any:
        what = self.kit.choose("yield", "future", "shield", "gather", "timeout", "event", "lock", "put", "get", "generator", "act", "wait", "group")
        future = self.kit.choose(*self.futures)
        if what == "yield":
            return await asyncio.sleep(0, what)
        if what == "future":
            return await future
        if what == "shield":
            return await asyncio.shield(future)
        if what == "gather":
            return await asyncio.gather(future, asyncio.sleep(0, 1), return_exceptions=self.kit.chance(0.5))
        if what == "timeout":
            async with asyncio.timeout(self.kit.choose(-1, 0, None)):
                return await asyncio.sleep(0, what)
        if what == "event":
            return await self.event.wait()
        if what == "lock":
            async with self.lock:
                return await asyncio.sleep(0, what)
        if what == "put":
            return await self.queue.put(1)
        if what == "get":
            return await self.queue.get()
        if what == "generator":
            return [item async for item in self.items()]
        if what == "wait":
            done, pending = await asyncio.wait(self.futures, timeout=self.kit.choose(0, 0, None), return_when=asyncio.FIRST_COMPLETED)
            return len(done), len(pending)
        if what == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(self.task(-1, 0))
            return what
        self.act(max(depth - 1, 0))
        return what

    async def items(self) -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(0)
            yield 2
        finally:
            self.note("generator ends")

    async def run(self) -> None:
        self.start = self.loop.time() - 60
        for _ in range(5 + self.kit.size(20)):
            self.act(2)
            if self.kit.chance(0.3):
                await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        for future in self.futures:
            future.cancel()
        for task in self.tasks:
            task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        for number, task in enumerate(self.tasks):
            if not task.done():
                self.note("not done", number)
                task.cancel()


async def turns(kit: Kit) -> None:
    """See `Turns`."""
    await Turns(kit).run()
