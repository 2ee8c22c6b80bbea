"""Whatever a callback of a stack raises: what leaves the run costs nothing else, all other the connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

from .scenes import TURNS, Stuck

pytestmark = pytest.mark.usefixtures("ledger")

ERRORS = (ZeroDivisionError, OSError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
LEAVE = (KeyboardInterrupt, SystemExit)

PLACES = (
    "connection_made",
    "connection_established",
    "layer_ready",
    "data_received",
    "io_out",
    "pause_writing",
    "resume_writing",
    "timeout_idle",
    "eof_received",
    "connection_lost",
)

# As in asyncio, they are told what is so anyway, and cost nothing by failing.
HARMLESS = ("connection_made", "pause_writing", "resume_writing", "connection_lost")


class Faulty(tepal.Protocol):
    """Raises once, in the place that it is told."""

    def __init__(self, where: str, error: BaseException | None) -> None:
        self.where, self.error = where, error
        self.events: list[str] = []
        self.data: list[bytes] = []
        self.transport: Any = None
        self.lost: Any = None

    def note(self, event: str) -> None:
        self.events.append(event)
        if event == self.where and self.error is not None:
            error, self.error = self.error, None
            raise error

    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made")

    def connection_established(self, transport):
        self.note("connection_established")

    def layer_ready(self, name, info):
        self.note("layer_ready")

    def data_received(self, data):
        self.data.append(data)
        self.note("data_received")

    def io_out(self):
        self.note("io_out")

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def timeout_idle(self):
        self.note("timeout_idle")

    def eof_received(self):
        self.note("eof_received")

    def connection_lost(self, exc):
        self.lost = exc
        self.note("connection_lost")


async def scene(loop: Any, protocol: Faulty) -> None:
    """A client and the faulty server, with a layer between; each callback of the server comes."""
    peer = Faulty("", None)
    limits = tepal.Timeouts(idle=0.02) if protocol.where == "timeout_idle" else None
    server = await loop.listen(lambda: protocol, "127.0.0.1", 0, layers=[tepal.Lines()], timeouts=limits)
    over = lambda: "connection_lost" in protocol.events  # noqa: E731

    async def until(condition: Any) -> None:
        for turn in range(TURNS):
            if condition() or over():
                return
            # A quiet period takes its time.
            await asyncio.sleep(0.001 if turn > 100 else 0)
        raise Stuck

    port = server.sockets[0].getsockname()[1]
    client = loop.connect(lambda: peer, "127.0.0.1", port, layers=[tepal.Lines()])
    try:
        await client.established()
        await until(lambda: protocol.transport is not None)
        for count in (1, 2):
            peer.transport.write(b"line")
            await until(lambda count=count: len(protocol.data) == count)
        if protocol.where in ("pause_writing", "resume_writing"):
            protocol.transport.set_write_buffer_limits(1000)
            # The kernel's own buffer grows, and could take it all.
            sock = protocol.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            peer.transport.pause_reading()
            for _ in range(128):
                loop.call_soon(protocol.transport.write, bytes(1 << 15))
            await until(lambda: "pause_writing" in protocol.events)
            peer.transport.resume_reading()
            await until(lambda: "resume_writing" in protocol.events)
        if protocol.where == "io_out":
            protocol.transport.write(b"line")
        if protocol.where in ("io_out", "timeout_idle"):
            await until(lambda: protocol.where in protocol.events)
        peer.transport.close()
        await until(over)
        if not over():
            raise Stuck
    finally:
        client.abort()
        server.close()
        await server.drain(0)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", PLACES)
def test_what_leaves_the_run_costs_nothing_else(bare_loop, where, error):
    loop, left = bare_loop, []
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    raised = error("on purpose")
    protocol = Faulty(where, raised)
    task = loop.create_task(scene(loop, protocol))
    while not task.done():
        try:
            loop.run_until_complete(task)
        except LEAVE as stopped:
            left.append(stopped)
    assert protocol.events.count("connection_lost") == 1
    if error in LEAVE:
        assert left == [raised] and reports == []
        # It goes on until the client closes it. A layered stream's end is not asked about again.
        assert protocol.lost is None and protocol.data == [b"line"] * 2
    else:
        assert left == []
        assert reports == ([] if error is OSError and where not in HARMLESS else [raised])
        if where not in HARMLESS:
            assert protocol.lost is raised
        else:
            assert protocol.data == [b"line"] * 2
