"""A stream transport, a protocol that keeps what it is told, and the blocking socket at the other end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


class Recorder(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self, loop: Any) -> None:
        self.events: list[Any] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost = loop.create_future()
        self.ended = loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data

    def eof_received(self) -> None:
        self.events.append("eof")
        if not self.ended.done():
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)


async def connected(loop: Any, factory: Any = None) -> tuple[Any, Any, socket.socket]:
    """A transport, its protocol, and the blocking socket at the other end."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    ours.setblocking(False)
    transport, protocol = await loop.create_connection(factory or (lambda: Recorder(loop)), sock=ours)
    return transport, protocol, theirs


async def receive(sock: socket.socket, most: int = 1 << 20) -> bytes:
    """What comes next, without holding up the loop."""
    sock.setblocking(False)
    while True:
        try:
            return sock.recv(most)
        except BlockingIOError:
            await asyncio.sleep(0)


async def drain(sock: socket.socket) -> None:
    """Reads until it is cancelled."""
    while await receive(sock):
        pass


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)
