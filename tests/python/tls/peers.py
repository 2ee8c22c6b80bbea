"""Contexts, protocols, and a peer that does what the test says."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[3] / "crates/tepal-layers/tests/data"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def server_context(version: Any = None, name: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / f"{name}.pem", DATA / f"{name}.key")
    return limited(context, version)


def client_context(version: Any = None) -> ssl.SSLContext:
    return limited(ssl.create_default_context(cafile=DATA / "ca.pem"), version)


def limited(context: ssl.SSLContext, version: Any) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Recorder(asyncio.Protocol):
    """Keeps what it is told; `raises` names the callbacks that fail, `acts` says what else they do."""

    def __init__(self, raises: tuple[str, ...] = (), acts: Any = None) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.raises, self.acts = raises, acts
        self.error: BaseException | None = None
        loop = asyncio.get_running_loop()
        self.made, self.ended, self.lost = (loop.create_future() for _ in range(3))

    def told(self, event: str) -> None:
        self.events.append(event)
        if self.acts is not None:
            self.acts(self, event)
        if event in self.raises:
            raise ZeroDivisionError(event)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.made.set_result(None)
        self.told("connection_made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.told("data_received")

    def eof_received(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self.told("eof_received")

    def pause_writing(self) -> None:
        self.told("pause_writing")

    def resume_writing(self) -> None:
        self.told("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self.lost.set_result(None)
        self.told("connection_lost")

    def story(self) -> list[str]:
        """What happened, without how the data was cut up."""
        return [event for event in self.events if event != "data_received"]


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same, lending memory."""

    data_received = None  # type: ignore[assignment]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.memory = bytearray(1000)

    def get_buffer(self, sizehint: int) -> memoryview:
        self.told("get_buffer")
        # asyncio fills slices of it: those of a bytearray would be copies.
        return memoryview(self.memory)

    def buffer_updated(self, count: int) -> None:
        self.data += self.memory[:count]
        self.told("data_received")

    def story(self) -> list[str]:
        return [event for event in super().story() if event != "get_buffer"]


class Peer:
    """The other end of a connection: a socket, and TLS by hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None, **keywords: Any) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if context is not None:
            self.tls = context.wrap_bio(self.incoming, self.outgoing, **keywords)

    async def flush(self) -> None:
        data = self.outgoing.read()
        if data:
            await self.loop.sock_sendall(self.sock, data)

    async def call(self, function: Any, *args: Any) -> Any:
        """A call of the TLS, with what it takes from the wire."""
        while True:
            try:
                result = function(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.loop.sock_recv(self.sock, 1 << 16)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)
            except ssl.SSLError:
                await self.flush()
                raise
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        await self.call(self.tls.do_handshake)

    async def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self.call(self.tls.read, count - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def write(self, data: bytes) -> None:
        await self.call(self.tls.write, data)

    async def say_goodbye(self) -> None:
        """Sends close_notify and does not wait."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:  # it wants an answer, or there are bytes that nobody has read
            pass
        await self.flush()

    async def finish(self) -> None:
        """Reads to the end, answers a close_notify, and closes."""
        try:
            while await self.call(self.tls.read, 1 << 16):
                pass
            await self.say_goodbye()
        except (EOFError, ssl.SSLError, ConnectionError):
            pass
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    async def drain(self) -> None:
        """Reads ciphertext until it ends."""
        try:
            while await self.loop.sock_recv(self.sock, 1 << 16):
                pass
        except ConnectionError:
            pass


def sockets() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection: what a reset is, only TCP knows."""
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    listener.close()
    for sock in (ours, theirs):  # so that a few megabytes are more than the kernel takes
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


async def connected(version: Any = None, factory: Any = Recorder, **keywords: Any) -> tuple[Any, Any, Peer]:
    """A client's transport and protocol, and its peer."""
    loop = asyncio.get_running_loop()
    ours, theirs = sockets()
    peer = Peer(theirs, server_context(version), server_side=True)
    connecting = loop.create_connection(
        factory, sock=ours, ssl=keywords.pop("context", None) or client_context(version),
        server_hostname="server.test", **keywords,
    )  # fmt: skip
    (transport, protocol), _ = await asyncio.gather(connecting, peer.handshake())
    return transport, protocol, peer


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
