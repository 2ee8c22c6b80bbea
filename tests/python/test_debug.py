"""What transports and debug mode tell, beside what they tell on asyncio's loop."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")

FACTORIES = [asyncio.SelectorEventLoop, tepal.new_event_loop]


def plain(text: str) -> str:
    """Without the names of classes, and what differs from run to run."""
    text = re.sub(r"<(asyncio\.)?\w+Transport ", "<Transport ", text)
    text = re.sub(r"<\w*Loop [^>]*>", "<Loop>", text)
    text = re.sub(r" closed fd=\d+", " closed", text)
    text = re.sub(r"<[\w.<>]+ object at 0x\w+>", "<object>", text)
    return re.sub(r"fd=\d+|pid=\d+|took [\d.]+|\b\d{4,5}\b|pipe \d+", "N", text)


def on_each(main: Callable[[], Coroutine[Any, Any, Any]], debug: bool) -> list[Any]:
    """The result on asyncio's loop, and on ours."""
    results = []
    for factory in FACTORIES:
        with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
            runner.get_loop().set_debug(debug)
            results.append(runner.run(asyncio.wait_for(main(), 20)))
    return results


def test_transports_show_themselves_as_asyncios_do() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        seen = [repr(transport)]
        transport.pause_reading()
        seen.append(repr(transport))
        transport.write(bytes(4_000_000))
        await asyncio.sleep(0.01)
        seen.append(repr(transport))
        transport.close()
        seen.append(repr(transport))
        transport.abort()
        await asyncio.sleep(0.01)
        seen.append(repr(transport))
        theirs.close()
        endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        seen.append(repr(endpoint))
        endpoint.close()
        seen.append(repr(endpoint))
        await asyncio.sleep(0.01)
        seen.append(repr(endpoint))
        ends = os.pipe()
        reads, _ = await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(ends[0], "rb", 0))
        writes, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ends[1], "wb", 0))
        seen += [repr(reads), repr(writes)]
        reads.pause_reading()
        writes.write(bytes(1_000_000))
        seen += [repr(reads), repr(writes)]
        writes.abort()
        reads.close()
        seen += [repr(reads), repr(writes)]
        await asyncio.sleep(0.01)
        seen += [repr(reads), repr(writes)]
        return [re.sub(r"bufsize=\d\d+", "bufsize=some", plain(each)) for each in seen]

    expected, got = on_each(main, debug=False)
    assert got == expected
    assert "<Transport N read=idle write=<polling, bufsize=some>>" in got


def test_debug_mode_logs_what_asyncios_logs(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60
        assert len(await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)) == 1
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("127.0.0.1", "no-such-service", flags=socket.AI_NUMERICHOST)

    logs = []
    for factory in FACTORIES:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"), asyncio.Runner(loop_factory=factory, debug=True) as runner:
            runner.run(asyncio.wait_for(main(), 20))
            runner.close()
        logs.append([plain(record.getMessage()) for record in caplog.records if "Using selector" not in record.getMessage()])
    assert logs[0] == logs[1]
    assert "Close <Loop>" in logs[1]


def test_debug_mode_tells_of_a_connection_what_asyncios_tells(caplog: pytest.LogCaptureFixture) -> None:
    class Served(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"x")

        def connection_lost(self, exc: BaseException | None) -> None:
            lost.set_result(None)

    async def main() -> None:
        nonlocal lost
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60
        lost = loop.create_future()
        server = await loop.create_server(Served, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.readexactly(1)
        writer.transport.pause_reading()
        writer.transport.resume_reading()
        writer.write_eof()
        await lost
        writer.close()
        await writer.wait_closed()
        server.close()
        ends = os.pipe()
        os.close(ends[1])
        await loop.connect_read_pipe(asyncio.Protocol, os.fdopen(ends[0], "rb", 0))
        await asyncio.sleep(0.01)

    lost: Any = None
    logs = []
    for factory in FACTORIES:
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"), asyncio.Runner(loop_factory=factory, debug=True) as runner:
            runner.run(asyncio.wait_for(main(), 20))
        # In which state a transport is by now, or in which order two ends hear, is not compared.
        told = [re.sub(r"<Transport [^>]*>+", "<Transport>", plain(record.getMessage())) for record in caplog.records]
        logs.append(sorted(line for line in told if "Using selector" not in line))
    assert logs[0] == logs[1]
    assert {"<Transport> pauses reading", "<Transport> resumes reading", "<Transport> received EOF", "<Transport> was closed by peer"} <= set(logs[1])
