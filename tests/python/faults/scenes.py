"""Connections of each kind, one of whose callbacks raises something once; and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from tls.peers import client_context, server_context

# Each limit is a number of turns: nothing here depends on a clock.
TURNS = 5_000


class Faulty:
    """Protocols of every kind in one: notes what it is told, and raises once where it is told to."""

    def __init__(self, where: str, error: BaseException | None) -> None:
        self.where, self.error = where, error
        self.events: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost: BaseException | None = None

    def note(self, event: str) -> None:
        self.events.append(event)
        if event == self.where and self.error is not None:
            error, self.error = self.error, None
            raise error

    def count(self, event: str) -> int:
        return self.events.count(event)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.note("data_received")

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.data += data
        self.note("datagram_received")

    def error_received(self, error: OSError) -> None:
        self.note("error_received")

    def eof_received(self) -> None:
        self.note("eof_received")

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.data += data
        self.note("pipe_data_received")

    def pipe_connection_lost(self, fd: int, error: BaseException | None) -> None:
        self.note("pipe_connection_lost")

    def process_exited(self) -> None:
        self.note("process_exited")

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost = error
        self.note("connection_lost")


class FaultyStream(Faulty, asyncio.Protocol):
    """For streams."""


class FaultyBuffered(Faulty, asyncio.BufferedProtocol):
    """For streams, lending memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.memory = bytearray(100)

    def get_buffer(self, size: int) -> memoryview:
        self.note("get_buffer")
        return memoryview(self.memory)

    def buffer_updated(self, count: int) -> None:
        self.data += self.memory[:count]
        self.note("buffer_updated")


class FaultyDatagrams(Faulty, asyncio.DatagramProtocol):
    """For datagrams."""


class FaultyProcess(Faulty, asyncio.SubprocessProtocol):
    """For child processes."""


class Stuck(Exception):
    """What had to come never came."""


async def until(condition: Callable[[], Any]) -> None:
    """Turns until it is so."""
    for _ in range(TURNS):
        if condition():
            return
        await asyncio.sleep(0)
    raise Stuck


async def talk(loop: Any, protocol: Faulty, theirs: socket.socket) -> None:
    """Makes each callback of a stream come: data twice, pressure, the end."""
    transport = protocol.transport
    over = lambda: protocol.count("connection_lost")  # noqa: E731
    for text in (b"one", b"onetwo"):
        if not over():
            theirs.send(text[-3:])
            await until(lambda text=text: protocol.data == text or over())
    if protocol.where in ("pause_writing", "resume_writing"):
        transport.set_write_buffer_limits(1000)
        # In a callback: what comes out of it must leave the run, and not end this task.
        loop.call_soon(transport.write, bytes(4 << 20))
        await until(lambda: protocol.count("pause_writing") or over())
        theirs.setblocking(False)

        def drained() -> bool:
            try:
                theirs.recv(1 << 20)
            except BlockingIOError:
                pass
            return bool(protocol.count("resume_writing") or over())

        await until(drained)
    if not over():
        theirs.shutdown(socket.SHUT_WR)
        await until(over)


async def plain(loop: Any, protocol: Faulty) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        await loop.create_connection(lambda: protocol, sock=ours)
        await talk(loop, protocol, theirs)


async def tls(loop: Any, protocol: Faulty) -> None:
    """The faulty one is a server's; its peer is a client on the same loop."""
    peer = FaultyStream("", None)
    if protocol.where == "eof_received":
        peer.eof_received = lambda: True  # type: ignore[method-assign, assignment, return-value]
    ours, theirs = socket.socketpair()
    made = loop.create_task(
        loop.connect_accepted_socket(lambda: protocol, ours, ssl=server_context())
    )
    try:
        async with asyncio.timeout(10):
            await loop.create_connection(
                lambda: peer, sock=theirs, ssl=client_context(), server_hostname="server.test"
            )
            await until(made.done)
        over = lambda: protocol.count("connection_lost")  # noqa: E731
        for text in (b"one", b"onetwo"):
            if not over():
                peer.transport.write(text[-3:])
                await until(lambda text=text: protocol.data == text or over())
        if protocol.where in ("pause_writing", "resume_writing"):
            protocol.transport.set_write_buffer_limits(1000)
            peer.transport.pause_reading()
            for _ in range(64):
                loop.call_soon(protocol.transport.write, bytes(1 << 16))
            await until(lambda: protocol.count("pause_writing") or over())
            peer.transport.resume_reading()
            # A peer that closes with bytes on their way may or may not break the other's pipe.
            await until(lambda: len(peer.data) == 64 << 16 or over())
        peer.transport.close()
        await until(over)
        await until(lambda: peer.count("connection_lost"))
    finally:
        made.cancel()
        await asyncio.gather(made, return_exceptions=True)
        for end in (protocol, peer):
            if end.transport is not None:
                # asyncio's TLS transport forgets its protocol before 3.11.3, and fails then.
                with contextlib.suppress(AttributeError):
                    end.transport.abort()


async def datagrams(loop: Any, protocol: Faulty) -> None:
    theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    theirs.bind(("127.0.0.1", 0))
    with theirs:
        address = theirs.getsockname()
        await loop.create_datagram_endpoint(lambda: protocol, remote_addr=address)
        own = protocol.transport.get_extra_info("sockname")
        for text in (b"one", b"onetwo"):
            theirs.sendto(text[-3:], own)
            await until(lambda text=text: protocol.data == text)
        if protocol.where == "error_received":
            theirs.close()
            protocol.transport.sendto(b"to nobody")
            await until(lambda: protocol.count("error_received"))
        protocol.transport.close()
        await until(lambda: protocol.count("connection_lost"))


async def read_pipe(loop: Any, protocol: Faulty) -> None:
    read, write = os.pipe()
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(read, "rb", 0))
    over = lambda: protocol.count("connection_lost")  # noqa: E731
    for text in (b"one", b"onetwo"):
        if not over():
            os.write(write, text[-3:])
            await until(lambda text=text: protocol.data == text or over())
    os.close(write)
    await until(over)


async def write_pipe(loop: Any, protocol: Faulty) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    await loop.connect_write_pipe(lambda: protocol, os.fdopen(write, "wb", 0))
    over = lambda: protocol.count("connection_lost")  # noqa: E731
    protocol.transport.set_write_buffer_limits(1000)
    loop.call_soon(protocol.transport.write, bytes(1 << 20))
    await until(lambda: protocol.count("pause_writing"))

    def drained() -> bool:
        try:
            os.read(read, 1 << 20)
        except BlockingIOError:
            pass
        return bool(protocol.count("resume_writing") or over())

    await until(drained)
    protocol.transport.abort()
    try:
        await until(over)
    finally:
        os.close(read)


async def process(loop: Any, protocol: Faulty) -> None:
    made = loop.create_task(
        loop.subprocess_exec(lambda: protocol, "sh", "-c", "printf one; cat", stderr=None)
    )
    await until(lambda: made.done() or protocol.transport is not None)
    while protocol.data != b"one":
        # A child takes its time.
        await asyncio.sleep(0.001)
    protocol.transport.get_pipe_transport(0).close()
    while not protocol.count("connection_lost"):
        await asyncio.sleep(0.001)
    await made
    protocol.transport.close()
    # The end of the child and the ends of its pipes come in any order.
    protocol.events.sort()


class Story:
    """What came of a scene: what left the run, what the protocol was told, what was reported."""

    def __init__(self, loop: Any, scene: Callable[[Any, Faulty], Coroutine[Any, Any, None]], protocol: Faulty) -> None:
        self.left: list[str] = []
        self.reports: list[tuple[str, str]] = []
        self.protocol = protocol
        loop.set_exception_handler(self.report)
        task = loop.create_task(scene(loop, protocol))
        while not task.done():
            try:
                loop.run_until_complete(task)
            except (KeyboardInterrupt, SystemExit) as error:
                self.left.append(type(error).__name__)
                if len(self.left) > 3:
                    task.cancel()
            except Stuck:
                self.left.append("stuck")
        # What the scene left behind ends now.
        if protocol.transport is not None and not protocol.count("connection_lost"):
            getattr(protocol.transport, "abort", protocol.transport.close)()
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))

    def report(self, loop: Any, context: dict[str, Any]) -> None:
        message = context["message"]
        kind = message if message.startswith(("Fatal", "protocol.")) else "of a callback"
        self.reports.append((kind, type(context.get("exception")).__name__))

    def told(self) -> tuple[Any, ...]:
        protocol = self.protocol
        # How often memory is asked for is nobody's contract.
        events = [event for event in protocol.events if event != "get_buffer"]
        return self.left, events, self.reports, type(protocol.lost).__name__, bytes(protocol.data)
