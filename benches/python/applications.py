"""A program that people run, on a loop: `applications.py LOOP KIND [BACKEND PORT]`.

Servers tell where they listen, as those of serve.py do, and run. KIND is one of `aiohttp`,
`uvicorn-h11`, `uvicorn-httptools`, `websockets`, `proxy` (a pair of asyncio protocols) and `join`
(the same by `transport.join` on tepal's loop, by the protocols elsewhere). `redis` is a client:
it prints the CPU time of one command of a pipeline in nanoseconds, with BACKEND a socket's path.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from typing import Any

import loops

BODY = b"Hello, world!"


def listening(sock: Any) -> None:
    gc.collect()
    gc.freeze()
    address = sock.getsockname()
    print(f"listening {address[0]}:{address[1]} {os.getpid()}", flush=True)


async def aiohttp_server() -> None:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    listening(runner.server and next(iter(runner.sites))._server.sockets[0])
    await asyncio.get_running_loop().create_future()


async def uvicorn_server(http: str) -> None:
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            listening(self.servers[0].sockets[0])

    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=http, lifespan="off", log_config=None, access_log=False
    )
    await Server(config).serve()


async def websockets_server() -> None:
    from websockets.asyncio.server import serve

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        listening(next(iter(server.sockets)))
        await asyncio.get_running_loop().create_future()


class Half(asyncio.Protocol):
    """One side of a relay, which copies what it reads to the other, and waits where that is full."""

    other: Half | None = None
    transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is not None:
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


class Front(Half):
    """The side of a relay that was connected to."""

    def __init__(self, address: tuple[str, int], by_join: bool) -> None:
        self.address, self.by_join = address, by_join

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()
        self.task = asyncio.get_running_loop().create_task(self.reach())

    async def reach(self) -> None:
        loop = asyncio.get_running_loop()
        transport, back = await loop.create_connection(Half, *self.address)
        if self.by_join:
            await self.transport.join(transport)
            return
        self.other, back.other = back, self
        self.transport.resume_reading()


async def relay(by_join: bool, host: str, port: str) -> None:
    loop = asyncio.get_running_loop()
    address = host, int(port)
    server = await loop.create_server(lambda: Front(address, by_join), "127.0.0.1", 0, backlog=2048)
    listening(server.sockets[0])
    await loop.create_future()


async def redis_client(path: str) -> None:
    import redis.asyncio as redis

    client = redis.Redis(unix_socket_path=path)

    async def rounds(many: int) -> None:
        for _ in range(many):
            async with client.pipeline(transaction=False) as pipeline:
                for index in range(50):
                    pipeline.set(f"key:{index}", "x" * 64)
                    pipeline.get(f"key:{index}")
                await pipeline.execute()

    await rounds(20)
    before, many = time.process_time_ns(), 100
    await rounds(many)
    print((time.process_time_ns() - before) / (many * 100), flush=True)
    await client.aclose()


def main() -> None:
    name, kind, *rest = sys.argv[1:]
    del [bytearray(1 << 20)][:]  # See serve.py.
    program = {
        "aiohttp": aiohttp_server,
        "uvicorn-h11": lambda: uvicorn_server("h11"),
        "uvicorn-httptools": lambda: uvicorn_server("httptools"),
        "websockets": websockets_server,
        "proxy": lambda: relay(False, *rest),
        "join": lambda: relay(name == "tepal", *rest),
        "redis": lambda: redis_client(*rest),
    }[kind]
    with asyncio.Runner(loop_factory=loops.factory(name)) as runner:
        runner.run(program())


if __name__ == "__main__":
    main()
