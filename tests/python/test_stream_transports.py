"""Stream transports: what asyncio promises, and what it leaves open."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest
from connections import Recorder, connected, until

import tepal


def test_bytes_arrive_once_and_in_order(loop: Any, run: Any) -> None:
    async def main() -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100_000):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            sent = bytes(range(256)) * 20_000
            for start in range(0, len(sent), 77_777):
                writer.write(sent[start : start + 77_777])
            writer.write_eof()
            assert await reader.read() == sent
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("keeps", ["nothing", "told", "socket"])
def test_a_socket_asked_for_in_connection_made_stays_if_it_is_kept(loop: Any, run: Any, keeps: str) -> None:
    made = []
    kept: list[Any] = []

    class Asks(Recorder):
        def connection_made(self, transport: Any) -> None:
            told = transport.get_extra_info("socket")
            assert transport.get_extra_info("socket") is told
            told.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.append((transport, told.fileno(), weakref.ref(told._sock)))
            kept.extend({"nothing": [], "told": [told], "socket": [told._sock]}[keeps])
            super().connection_made(transport)

    async def main() -> None:
        server = await loop.create_server(lambda: Asks(loop), "127.0.0.1", 0)
        theirs = socket.create_connection(server.sockets[0].getsockname())
        await until(lambda: len(made) == 1)
        await asyncio.sleep(0)
        transport, number, sock = made[0]
        assert (sock() is None) == (keeps == "nothing")
        told = transport.get_extra_info("socket")
        assert told.fileno() == number
        if keeps != "nothing":
            assert told._sock is sock()
        transport.close()
        await until(lambda: told.fileno() == -1)
        assert transport.get_extra_info("socket") is told
        theirs.close()
        server.close()
        await server.wait_closed()

    run(main())


def test_lent_memory_is_free_again_when_the_protocol_hears_of_it(loop: Any, run: Any) -> None:
    class Lends(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.memory = bytearray(10)
            self.got = b""
            self.lost = loop.create_future()

        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(self.memory)

        def buffer_updated(self, count: int) -> None:
            self.got += self.memory[:count]
            self.memory.extend(b"0123456789")

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        transport, protocol, theirs = await connected(loop, Lends)
        theirs.sendall(bytes(range(100)))
        await until(lambda: len(protocol.got) == 100)
        assert protocol.got == bytes(range(100))
        protocol.get_buffer = lambda _: bytearray()
        theirs.sendall(b"x")
        error = await protocol.lost
        assert isinstance(error, RuntimeError)
        assert "get_buffer() returned an empty buffer" in str(error)
        assert loop.reports.pop()["exception"] is error
        theirs.close()
        assert transport.is_closing()

    run(main())


def test_reading_pauses_at_once(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        theirs.sendall(b"x")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not protocol.data
        transport.resume_reading()
        await until(lambda: protocol.data)
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        theirs.close()
        await protocol.lost

    run(main())


def test_facts_about_a_connection_stay_after_its_end(loop: Any, run: Any) -> None:
    async def main() -> None:
        protocols: list[Recorder] = []

        def factory() -> Recorder:
            protocols.append(Recorder(loop))
            return protocols[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        client, theirs = await loop.create_connection(lambda: Recorder(loop), *address)
        await until(lambda: protocols and protocols[0].transport)
        accepted = protocols[0].transport
        sock = accepted.get_extra_info("socket")
        assert sock.getsockname() == address
        assert sock.fileno() >= 0
        assert client.get_extra_info("peername") == address
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)
        client.close()
        await theirs.lost
        await protocols[0].lost
        assert sock.fileno() == -1, "the descriptor belongs to nobody now"
        assert accepted.get_extra_info("peername") == client.get_extra_info("sockname")
        assert accepted.get_extra_info("sockname") == address
        assert accepted.get_extra_info("nothing", 5) == 5
        server.close()
        await server.wait_closed()

    run(main())


def test_transports_are_asyncios_by_type_and_take_attributes(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.DatagramTransport)
        # Completion in a shell goes by this.
        transport.note = None
        assert {"write", "push_layer", "reconnect", "phase", "note"} <= set(dir(transport))
        written = []
        transport.write = written.append
        transport.write(b"seen")
        assert written == [b"seen"]
        del transport.write
        assert weakref.ref(transport)() is transport
        transport.close()
        theirs.close()
        await protocol.lost
        assert "closed" in repr(transport)

    run(main())


def test_a_closed_connection_leaves_nothing_behind(loop: Any, run: Any) -> None:
    async def main() -> tuple[Any, Any]:
        transport, protocol, theirs = await connected(loop)
        protocol.cycle = protocol
        references = weakref.ref(transport), weakref.ref(protocol)
        transport.close()
        await protocol.lost
        theirs.close()
        return references

    references = run(main())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_a_loop_with_open_transports_is_collected(loop: Any) -> None:

    other = tepal.new_event_loop()
    transport, protocol, theirs = other.run_until_complete(connected(other))
    reference = weakref.ref(protocol)
    with pytest.warns(ResourceWarning):
        del transport, protocol, other
        gc.collect()
        gc.collect()
    assert reference() is None
    assert theirs.recv(1) == b"", "its descriptor is closed"
    theirs.close()


def test_a_reset_is_told_apart_from_a_clean_end(loop: Any, run: Any) -> None:
    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        transport, protocol = await loop.create_connection(lambda: Recorder(loop), *listener.getsockname())
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert transport.is_closing()
        transport.write(b"dropped")
        transport.close()
        transport.abort()
        listener.close()

    run(main())


def test_half_closed_connections_go_on_in_the_other_direction(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        protocol.eof_received = lambda: True
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not transport.is_closing()
        transport.write(b"still")
        transport.write_eof()
        await asyncio.sleep(0)
        assert theirs.recv(10) == b"still"
        assert theirs.recv(10) == b""
        transport.close()
        theirs.close()
        assert await protocol.lost is None

    run(main())
