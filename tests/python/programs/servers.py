"""Random uses of servers: their beginning and end, with and without connections."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from typing import Any

from .kit import Kit, told

ACTS = [
    "start_serving", "start_serving", "close", "is_serving", "sockets", "connect", "connect", "drop", "wait_closed", "serve_forever",
    "close_clients", "abort_clients", "get_loop",
]  # fmt: skip


class Served(asyncio.Protocol):
    """Notes what it hears."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.raises = kit.chance(0.1)

    def connection_made(self, transport: Any) -> None:
        self.kit.note("served", "made")
        if self.raises:
            raise ZeroDivisionError

    def data_received(self, data: bytes) -> None:
        self.kit.note("served", "data", len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.kit.note("served", "lost", type(exc).__name__)


class Servers:
    """One program."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.clients: list[socket.socket] = []
        self.waits: list[asyncio.Task[Any]] = []

    def factory(self) -> Served:
        return Served(self.kit)

    async def connect(self) -> str:
        client = socket.socket(self.family)
        self.clients.append(client)
        client.setblocking(False)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(client, self.address), 1)
        except OSError as error:
            return type(error).__name__
        client.send(b"x")
        return "connected"

    async def act(self, what: str) -> Any:
        kit, server = self.kit, self.server
        if what == "connect":
            return await self.connect()
        if what == "drop":
            return bool(self.clients) and kit.choose(*self.clients).close()
        if what in ("wait_closed", "serve_forever"):
            task = asyncio.create_task(getattr(server, what)())
            await kit.settle(2)
            if kit.chance(0.5):
                task.cancel()
                await asyncio.wait([task], timeout=0.1)
            self.waits.append(task)
            return None
        if what == "sockets":
            return len(server.sockets)
        if what == "get_loop":
            return server.get_loop() is asyncio.get_running_loop()
        result = getattr(server, what)()
        return await result if what == "start_serving" else result

    async def run(self, place: str) -> None:
        kit, loop = self.kit, asyncio.get_running_loop()
        starts = kit.chance(0.6)
        if kit.chance(0.7):
            self.family = socket.AF_INET
            self.server: Any = await loop.create_server(self.factory, "127.0.0.1", 0, start_serving=starts)
        else:
            self.family = socket.AF_UNIX
            path = os.path.join(place, "server")
            self.server = await loop.create_unix_server(self.factory, path, start_serving=starts)
        self.address = self.server.sockets[0].getsockname()
        for _ in range(3 + kit.size(10)):
            what = kit.choose(*ACTS)
            result: Any
            try:
                result = await self.act(what)
            except Exception as error:
                result = told(error)
            kit.note("does", what, result)
            await kit.settle(3)
        for client in self.clients:
            client.close()
        await kit.settle()
        self.server.close()
        await kit.settle()
        for number, task in enumerate(self.waits):
            kit.note("waits", number, task.done() and (task.cancelled() or repr(task.exception())))
            task.cancel()
        await kit.outcome("waits", "closed", self.server.wait_closed())
        kit.note("place", os.listdir(place))


async def servers(kit: Kit) -> None:
    """See `Servers`."""
    with tempfile.TemporaryDirectory() as place:
        await Servers(kit).run(place)
