"""Ends of stream connections, each on asyncio's loop and on tepal's: a program sees the same."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

LOOPS = [asyncio.SelectorEventLoop, tepal.new_event_loop]
KINDS = ["tcp", "unix"]


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = bytearray()
        self.facts: dict[str, Any] = {}
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        sock = self.transport.get_extra_info("socket")
        self.facts = {"fileno": sock.fileno() >= 0, "name": sock.getsockname()}
        self.lost.set_result(exc)


async def connected(kind: str) -> tuple[Any, Any, socket.socket]:
    if kind == "unix":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
    theirs.settimeout(5)
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    return transport, protocol, theirs


def run(factory: Any, main: Any) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(asyncio.wait_for(main, 10))


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_comes_before_the_end_of_an_upload_is_read(factory: Any, kind: str) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(kind)
        transport.write(bytes(16_000_000))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        theirs.sendall(b"413 too large")
        theirs.close()
        exc = await protocol.lost
        assert isinstance(exc, ConnectionError)
        assert protocol.data == b"413 too large"

    run(factory, main())


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["abort", "raise"])
def test_what_was_written_before_a_hard_end_has_left(factory: Any, kind: str, end: str) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(kind)
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))

        def data_received(data: bytes) -> None:
            transport.write(b"HTTP/1.1 400 ")
            transport.write(b"Bad Request")
            if end == "raise":
                raise ValueError("no request")
            transport.abort()

        protocol.data_received = data_received
        theirs.sendall(b"nonsense")
        await protocol.lost
        received = b""
        with theirs:
            while piece := theirs.recv(1000):
                received += piece
        assert received == b"HTTP/1.1 400 Bad Request"
        assert len(reported) == (end == "raise")

    run(factory, main())


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_facts_and_marks_are_there_in_the_last_callback_and_after_it(factory: Any, kind: str) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(kind)
        transport.set_write_buffer_limits(high=1000, low=10)
        with theirs:
            name = transport.get_extra_info("sockname")
        await protocol.lost
        assert protocol.facts == {"fileno": True, "name": name}
        assert transport.get_write_buffer_limits() == (10, 1000)
        transport.set_write_buffer_limits(high=20, low=2)
        assert transport.get_write_buffer_limits() == (2, 20)
        assert transport.get_extra_info("socket").fileno() == -1

    run(factory, main())


@pytest.mark.parametrize("factory", LOOPS)
def test_a_socket_first_asked_for_after_the_end_is_a_closed_one(factory: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected("unix")
        protocol.connection_lost = lambda exc: protocol.lost.set_result(exc)
        theirs.close()
        await protocol.lost
        await asyncio.sleep(0)
        sock = transport.get_extra_info("socket")
        assert sock.fileno() == -1
        assert "fd" in repr(sock)

    run(factory, main())
