"""CVE-2024-12254: `writelines` above the high mark pauses the protocol, so that memory has a bound."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tls.peers import client_context, server_context

pytestmark = pytest.mark.usefixtures("ledger")

LARGE = [bytes(100_000)] * 50


class Pausing(asyncio.Protocol):
    """Counts what it is told of pressure."""

    def __init__(self) -> None:
        self.pauses = self.resumes = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.pauses += 1

    def resume_writing(self) -> None:
        self.resumes += 1


def generator() -> Iterator[bytes]:
    yield from LARGE


async def press(loop: Any, lines: Any, secured: bool) -> None:
    ours, theirs = socket.socketpair()
    writer, reader = Pausing(), Pausing()
    accept = loop.create_task(
        loop.connect_accepted_socket(lambda: reader, theirs, ssl=server_context() if secured else None)
    )
    keywords = {"ssl": client_context(), "server_hostname": "server.test"} if secured else {}
    transport, _ = await loop.create_connection(lambda: writer, sock=ours, **keywords)
    await accept
    reader.transport.pause_reading()
    transport.writelines(lines)
    assert writer.pauses == 1
    reader.transport.resume_reading()
    while not writer.resumes:
        await asyncio.sleep(0)
    transport.abort()
    reader.transport.abort()
    await asyncio.sleep(0.01)


# Not on asyncio's loop: 3.12.1 and 3.13.0 have the fault.
@pytest.mark.parametrize("make", [lambda: LARGE, lambda: tuple(LARGE), generator])
def test_writelines_above_the_high_mark_pauses_the_protocol(run: Any, loop: Any, make: Callable[[], Any]) -> None:
    run(press(loop, make(), False))


def test_writelines_over_tls_pauses_the_protocol_too(run: Any, loop: Any) -> None:
    run(press(loop, LARGE, True))


def test_writelines_of_an_iterator_that_raises_sends_nothing(run: Any, loop: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield b"sent?"
        raise KeyError

    async def scene() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, _ = await loop.create_connection(Pausing, sock=ours)
            with pytest.raises(KeyError):
                transport.writelines(broken())
            transport.writelines([])
            transport.close()
            transport.writelines([])
            assert await loop.sock_recv(theirs, 10) == b""

    run(scene())
