"""Who waits for a connection has it before its first bytes come: asyncio's loop is the judge."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


class Told(asyncio.Protocol, asyncio.DatagramProtocol):
    """Notes what it is told, and when it is lost."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.events: list[str] = []
        self.heard: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append("data")
        self.heard.set_result(None)

    def datagram_received(self, data: bytes, peer: Any) -> None:
        self.data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


def sent_to(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    """A socket at which something has arrived, and its peer."""
    ours, theirs = socket.socketpair(type=kind)
    ours.setblocking(False)
    theirs.send(b"early\n")
    return ours, theirs


async def opened(loop: Any, way: str, told: Told) -> tuple[Any, Any]:
    """A transport over something that can be read at once, and what has to be closed."""
    if way == "pipe":
        read, write = os.pipe()
        with open(write, "wb", 0) as pipe:
            pipe.write(b"early\n")
        return (await loop.connect_read_pipe(lambda: told, open(read, "rb", 0)))[0], None
    ours, theirs = sent_to(socket.SOCK_DGRAM if way == "datagrams" else socket.SOCK_STREAM)
    match way:
        case "socket":
            made = await loop.create_connection(lambda: told, sock=ours)
        case "Unix socket":
            made = await loop.create_unix_connection(lambda: told, sock=ours)
        case "accepted socket":
            made = await loop.connect_accepted_socket(lambda: told, ours)
        case "datagrams":
            made = await loop.create_datagram_endpoint(lambda: told, sock=ours)
        case "layers":
            made = await loop.create_connection(lambda: told, sock=ours, layers=[tepal.Lines()])
    return made[0], theirs


@pytest.mark.parametrize("way", ["socket", "Unix socket", "accepted socket", "datagrams", "pipe"])
def test_the_first_bytes_come_after_the_await_for_the_connection(
    any_loop: asyncio.AbstractEventLoop, way: str
) -> None:
    any_loop.run_until_complete(asyncio.wait_for(opens_before_it_reads(any_loop, way), 10))


def test_the_first_frame_comes_after_the_await_for_the_connection(loop: Any, run: Any) -> None:
    run(opens_before_it_reads(loop, "layers"))


async def opens_before_it_reads(loop: asyncio.AbstractEventLoop, way: str) -> None:
    told = Told(loop)

    # wait_for may put a task of its own between, which asyncio lets hear first.
    async def opening() -> Any:
        made = await opened(loop, way, told)
        told.events.append("opened")
        return made

    transport, peer = await loop.create_task(opening())
    await told.heard
    assert told.events == ["made", "opened", "data"]
    transport.close()
    await told.lost
    if peer is not None:
        peer.close()
