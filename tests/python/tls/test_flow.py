"""Bytes through `ssl=` connections, and what is told of them."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import weakref
from typing import Any

import pytest
from peers import VERSIONS, BufferedRecorder, Recorder, client_context, connected, server_context, turns


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_arrive_in_both_directions_whatever_their_number(run: Any, loop: Any, version: Any, factory: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(version, factory)
        for count in (1, 1000, 16384, 16385, 300_000):
            data = os.urandom(count)
            protocol.data.clear()
            writing = asyncio.ensure_future(peer.write(data))
            while len(protocol.data) < count:
                await asyncio.sleep(0)
            await writing
            assert protocol.data == data
            transport.write(memoryview(data)[: count // 2])
            transport.writelines([bytearray(data[count // 2 :]), b""])
            assert await peer.read(count) == data
        transport.close()
        await peer.finish()
        await protocol.lost
        assert protocol.story() == ["connection_made", "eof_received", "connection_lost"]

    run(main())


def test_streams_echo(run: Any, loop: Any) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context())
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
        data = os.urandom(500_000)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await turns(10)

    run(main())


def test_facts_of_the_connection(run: Any, loop: Any) -> None:
    async def main() -> None:
        context = client_context(ssl.TLSVersion.TLSv1_3)
        context.set_alpn_protocols(["h2", "http/1.1"])
        transport, _, peer = await connected(context=context)
        told = transport.get_extra_info
        assert told("sslcontext") is context
        if not type(transport).__module__.startswith("asyncio."):
            assert transport._sslcontext is context  # As uvloop's has it.
        assert isinstance(told("ssl_object"), ssl.SSLObject)
        assert ("DNS", "server.test") in told("peercert")["subjectAltName"]
        assert told("cipher")[1] == "TLSv1.3" and told("compression") is None
        assert told("peername") == peer.sock.getsockname()
        assert told("sockname") == peer.sock.getpeername()
        assert told("socket").fileno() >= 0
        assert told("nothing", 7) == 7
        assert isinstance(transport, asyncio.Transport)
        assert "ssl" in transport.__class__.__name__.lower()
        assert not transport.can_write_eof() and transport.is_reading() and not transport.is_closing()
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
            transport.write("text")
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_the_direct_way_is_taken_where_it_can_be(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, _, peer = await connected()
        assert transport._direct == (own_loop.way == "direct")
        transport.abort()
        peer.close()
        context = client_context()
        context._msg_callback = lambda *_: None
        transport, _, peer = await connected(context=context)
        assert not transport._direct
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_paused_reading_holds_the_peer_back_and_resumes(run: Any, loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        transport.pause_reading()
        assert not transport.is_reading()
        sending = asyncio.ensure_future(peer.write(bytes(5_000_000)))
        await turns(50)
        assert not protocol.data and not sending.done()
        transport.resume_reading()
        while len(protocol.data) < 5_000_000:
            await asyncio.sleep(0)
        await sending
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_a_writer_is_paused_above_the_high_mark_and_resumed(run: Any, loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        transport.set_write_buffer_limits(high=100_000, low=10)
        assert transport.get_write_buffer_limits() == (10, 100_000)
        data = os.urandom(100_000)
        count = 0
        while "pause_writing" not in protocol.events:
            transport.write(data)
            count += 1
            assert count < 1000
        assert transport.get_write_buffer_size() >= 100_000
        assert await peer.read(count * len(data)) == data * count
        while "resume_writing" not in protocol.events:
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() <= 10
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_what_the_transport_below_has_no_room_for_is_not_encrypted_yet(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, _, peer = await connected()
        data = os.urandom(5_000_000)
        transport.write(data)
        assert transport._below.get_write_buffer_size() < 1_000_000
        assert transport.get_write_buffer_size() > 3_000_000
        assert await peer.read(len(data)) == data
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_nothing_is_left_of_connections_that_have_ended(run: Any, loop: Any) -> None:
    async def once(trusting: bool) -> list[Any]:
        context = client_context() if trusting else ssl.create_default_context()
        try:
            transport, protocol, peer = await connected(context=context)
        except ssl.SSLError:
            return []
        found = [weakref.ref(transport), weakref.ref(protocol), weakref.ref(transport.get_extra_info("ssl_object"))]
        await peer.write(b"x" * 100)
        transport.write(b"y" * 100)
        await peer.read(100)
        transport.close()
        await peer.finish()
        await protocol.lost
        return found

    async def main() -> None:
        kept = []
        for _ in range(20):
            kept += await once(True)
        await turns()
        gc.collect()
        assert not [reference for reference in kept if reference() is not None]

    run(main())
