"""Loops on every driver, and what the tests of stacks share."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import tepal

DATA = Path(__file__).parents[3] / "crates" / "tepal-layers" / "tests" / "data"
# No test takes this long; one that hangs fails.
LIMIT = 30.0


@pytest.fixture(params=["epoll", "poll"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(driver: str) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine on a loop of each driver; what nobody handled fails the test."""
    loop = tepal.new_event_loop(driver=driver)
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    def runner(main: Coroutine[Any, Any, Any], *, expected_problems: int = 0, kept: int = 0) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await main

        with asyncio.Runner(loop_factory=lambda: loop) as owner:
            # The first run opens what wakes the loop.
            owner.run(asyncio.sleep(0))
            before = open_descriptors()
            result = owner.run(limited())
            # The peers of what was closed last hear of it a little later.
            for _ in range(200):
                left = open_descriptors() - before - kept
                if left <= 0:
                    break
                owner.run(asyncio.sleep(0.005))
            problems_now = list(problems)
        assert len(problems_now) == expected_problems, problems_now
        assert left <= 0, f"{left} descriptors are left"
        return problems_now if expected_problems else result

    yield runner
    if not loop.is_closed():
        loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def server_tls(**arguments: Any) -> tepal.TLS:
    return tepal.TLS(certificate=DATA / "server.pem", key=DATA / "server.key", **arguments)


def client_tls(name: str | None = "server.test", **arguments: Any) -> tepal.TLS:
    return tepal.TLS(name, ca=DATA / "ca.pem", **arguments)


class Recorder(tepal.Protocol):
    """Writes down all that it is told, and lets a test wait for it."""

    def __init__(self, answer: Callable[[Recorder, bytes], Any] | None = None) -> None:
        self.events: list[Any] = []
        self.data = bytearray()
        self.answer = answer
        self.transport: Any = None
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def note(self, event: Any) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, ready: Callable[[], Any]) -> None:
        """Waits until something that the protocol is told makes it true."""
        while not ready():
            self._changed.clear()
            await self._changed.wait()

    async def until_data(self, data: bytes) -> None:
        await self.until(lambda: len(self.data) >= len(data))
        assert bytes(self.data) == data

    async def until_event(self, event: Any) -> None:
        await self.until(lambda: event in self.events)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def connection_established(self, transport: Any) -> None:
        self.note("established")

    def data_received(self, data: bytes) -> Any:
        result = None
        if self.answer is None:
            self.data += data
        else:
            result = self.answer(self, data)
        self._changed.set()
        return result

    def eof_received(self) -> Any:
        self.note("eof")

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def io_out(self) -> None:
        self.note("out")

    def layer_ready(self, name: str, info: Any) -> None:
        self.note(f"ready {name}")

    def layer_added(self, name: str) -> None:
        self.note(f"added {name}")

    def layer_removed(self, name: str, how: str) -> None:
        self.note(f"removed {name} {how}")

    def layer_idle(self, name: str) -> None:
        self.note(f"idle {name}")

    def error_layer(self, exc: BaseException) -> None:
        self.note(("error", exc))

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)
        self.note("lost")


class Pair:
    """A client and a server that are connected, each with its layers."""

    def __init__(self, client: Recorder, server: Recorder, listener: tepal.Server) -> None:
        self.client, self.server, self.listener = client, server, listener

    @classmethod
    async def make(
        cls,
        layers: Any = (),
        server_layers: Any = (),
        *,
        client: Callable[[], Any] = Recorder,
        server: Callable[[], Any] = Recorder,
        wait: bool = True,
        **arguments: Any,
    ) -> Pair:
        loop: Any = asyncio.get_running_loop()
        accepted = loop.create_future()

        def factory() -> Any:
            protocol = server()
            accepted.set_result(protocol)
            return protocol

        listener = await loop.listen(factory, "127.0.0.1", 0, layers=server_layers)
        port = listener.sockets[0].getsockname()[1]
        transport = loop.connect(client, "127.0.0.1", port, layers=layers, **arguments)
        if wait:
            await transport.established()
        protocol = await accepted
        if wait:
            await protocol.until_event("established")
        return cls(transport.get_protocol(), protocol, listener)

    async def close(self) -> tuple[Any, Any]:
        """Closes from the client's side; what each was told at the end."""
        self.client.transport.close()
        client_told, server_told = await asyncio.gather(self.client.lost, self.server.lost)
        self.listener.close()
        await self.listener.drain(0)
        return client_told, server_told


def echo(protocol: Recorder, data: bytes) -> None:
    protocol.transport.write(data)


def record_and_echo(protocol: Recorder, data: bytes) -> None:
    protocol.data += data
    protocol.transport.write(data)


def refused_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def serve(factory: Any, **arguments: Any) -> tuple[tepal.Server, int]:
    loop: Any = asyncio.get_running_loop()
    server = await loop.listen(factory, "127.0.0.1", 0, **arguments)
    return server, server.sockets[0].getsockname()[1]


class Xor(tepal.Layer):
    """Hides bytes from the eyes of a passer-by, and from nobody else."""

    name = "xor"

    def __init__(self, key: int = 0x55) -> None:
        self.key = key

    def step(self, io: Any) -> Any:
        io.ready()
        if len(io.from_below) and io.to_above.may_push():
            data = io.from_below.bytes()
            io.from_below.consume(len(data))
            io.to_above.push(bytes(byte ^ self.key for byte in data))
        while len(io.from_above) and io.to_below.room():
            data = io.from_above.bytes()
            io.from_above.consume(len(data))
            io.to_below.send(bytes(byte ^ self.key for byte in data))
        return "closed" if io.finishing else None
