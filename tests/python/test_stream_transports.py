"""Stream transports: what asyncio promises, and what it leaves open."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import socket
import sys
import weakref
from typing import Any

import pytest

import tepal


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


def test_a_bytearray_that_changes_after_write_was_copied(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        data = bytearray(b"a" * 10_000)
        transport.write(data)
        transport.write(memoryview(data)[:3])
        data[:] = b"b" * 10_000
        del data[:]
        await asyncio.sleep(0)
        assert theirs.recv(20_000) == b"a" * 10_003
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


def test_bytes_are_let_go_once_they_have_left(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        data = bytes(3_000_000)
        before = sys.getrefcount(data)
        transport.write(data)
        assert sys.getrefcount(data) == before + 1, "it is kept and not copied"
        left = len(data)
        while left:
            left -= len(await receive(theirs))
        await until(lambda: not transport.get_write_buffer_size())
        assert sys.getrefcount(data) == before
        transport.write(data)
        transport.abort()
        assert sys.getrefcount(data) == before
        theirs.close()
        await protocol.lost

    run(main())


def test_pressure_is_told_inside_write_and_only_if_the_kernel_takes_no_more(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        for _ in range(40):
            transport.write(bytes(2000))
        assert "pause" not in protocol.events, "the kernel has room for that"
        transport.write(bytes(5_000_000))
        assert protocol.events[-1] == "pause"
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        reading = loop.create_task(drain(theirs))
        await until(lambda: protocol.events[-1] == "resume")
        reading.cancel()
        transport.abort()
        theirs.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "pause", "resume", "lost"]

    run(main())


def test_marks_follow_asyncios_rules(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


@pytest.mark.parametrize("wrong", ["text", 1, None, [1], object()])
def test_write_refuses_what_is_no_buffer(loop: Any, run: Any, wrong: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        name = type(wrong).__name__
        with pytest.raises(TypeError, match=f"data argument must be a bytes-like object, not '{name}'"):
            transport.write(wrong)
        with pytest.raises(TypeError):
            transport.writelines([b"ok", wrong])
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
        await asyncio.sleep(0)
        assert theirs.recv(10) == b"", "nothing of the refused was sent"
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
def test_an_exception_of_a_callback_costs_that_connection_only(loop: Any, run: Any, callback: str) -> None:
    async def main() -> None:
        error = ZeroDivisionError("mine")

        def fail(*_: Any) -> None:
            raise error

        transport, protocol, theirs = await connected(loop)
        other, other_protocol, other_peer = await connected(loop)
        setattr(protocol, callback, fail)
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)
        assert await protocol.lost is error
        [report] = loop.reports
        assert report["exception"] is error
        assert report["transport"] is transport
        assert report["protocol"] is protocol
        assert report["message"] == f"Fatal error: protocol.{callback}() call failed."
        loop.reports.clear()
        other.write(b"alive")
        await asyncio.sleep(0)
        assert other_peer.recv(10) == b"alive"
        other.close()
        await other_protocol.lost
        for sock in (theirs, other_peer):
            sock.close()

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_callback_leaves_a_loop_that_runs_again(loop: Any, kind: Any) -> None:
    def leave(_: bytes) -> None:
        raise kind("mine")

    transport, protocol, theirs = loop.run_until_complete(connected(loop))
    protocol.data_received = leave
    theirs.sendall(b"x")
    with pytest.raises(kind, match="mine"):
        loop.run_forever()
    transport.abort()
    theirs.close()
    loop.run_until_complete(protocol.lost)


def test_callbacks_run_in_the_context_of_the_connection(loop: Any, run: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    class Looks(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(variable.get())

        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())

    async def main() -> None:
        variable.set("outer")
        transport, protocol, theirs = await connected(loop, lambda: Looks(loop))
        variable.set("later")
        theirs.sendall(b"x")
        await until(lambda: len(seen) > 1)
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())
    assert seen == ["outer", "outer"]


@pytest.mark.parametrize("through", ["create_server", "listen"])
def test_a_connection_does_not_see_what_another_has_set_in_its_context(loop: Any, run: Any, through: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    class Sets(Recorder):
        def __init__(self) -> None:
            super().__init__(loop)
            seen.append(variable.get())
            variable.set("init")

        def connection_made(self, transport: Any) -> None:
            seen.append(variable.get())
            variable.set("made")

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(variable.get())

    async def main() -> None:
        variable.set("server")
        server = await getattr(loop, through)(Sets, "127.0.0.1", 0)
        variable.set("later")
        for turn in range(2):
            socket.create_connection(server.sockets[0].getsockname()).close()
            await until(lambda turn=turn: len(seen) == 3 * turn + 3)
        server.close()
        await server.wait_closed()

    run(main())
    assert seen == ["server", "init", "made"] * 2


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


def test_a_protocol_can_be_replaced_from_its_own_callback(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, first, theirs = await connected(loop)
        second = Recorder(loop)
        first.data_received = lambda data: transport.set_protocol(second)
        theirs.sendall(b"1")
        await until(lambda: transport.get_protocol() is second)
        theirs.sendall(b"2")
        await until(lambda: second.data)
        assert second.data == b"2"
        transport.close()
        theirs.close()
        assert await second.lost is None
        assert not first.lost.done()

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


def test_what_is_written_can_be_named_as_asyncio_names_it(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, _ = await any_loop.create_connection(asyncio.Protocol, sock=ours)
            transport.write(data=b"one")
            transport.writelines(list_of_data=[b"two", b"three"])
            transport.close()
            whole = b""
            while piece := await any_loop.sock_recv(theirs, 100):
                whole += piece
            assert whole == b"onetwothree"
            for call in (
                lambda: transport.write(),
                lambda: transport.write(b"", b""),
                lambda: transport.write(b"", data=b""),
                lambda: transport.write(text=b""),
                lambda: transport.writelines(),
                lambda: transport.writelines([], data=[]),
            ):
                with pytest.raises(TypeError, match=r"write(lines)?\(\) (missing|takes|got)"):
                    call()

    any_loop.run_until_complete(main())


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
    import tepal

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


def test_a_factory_that_fails_costs_its_connection_only(loop: Any, run: Any) -> None:
    async def main() -> None:
        calls: list[Recorder] = []

        def factory() -> Recorder:
            calls.append(Recorder(loop))
            if len(calls) == 1:
                raise ZeroDivisionError("mine")
            return calls[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        for _ in range(2):
            with socket.create_connection(server.sockets[0].getsockname()) as peer:
                peer.settimeout(5)
                before = len(calls)
                await until(lambda before=before: len(calls) > before)
        assert await calls[1].lost is None
        [report] = loop.reports
        assert isinstance(report["exception"], ZeroDivisionError)
        loop.reports.clear()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_file_is_sent_behind_what_was_written(loop: Any, run: Any, tmp_path: Any) -> None:
    content = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        received = bytearray()

        def read() -> None:
            while len(received) < len(content) + 1:
                received.extend(theirs.recv(1 << 16))

        with path.open("rb") as file:
            transport.write(b"-")
            sending = loop.create_task(loop.sendfile(transport, file, 10, 200_000))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"no")
            theirs.setblocking(False)
            while not sending.done() or len(received) < 200_001:
                try:
                    received.extend(theirs.recv(1 << 16))
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert await sending == 200_000
            assert file.tell() == 200_010
        assert received == b"-" + content[10:200_010]
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


@pytest.mark.parametrize("layered", [False, True])
def test_a_file_that_is_given_up_stops_where_it_is(loop: Any, run: Any, tmp_path: Any, layered: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(16 << 20))

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        theirs.setblocking(False)
        if layered:
            transport.push_layer(tepal.RateLimit(write=1 << 30))
        with path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(transport, file, 10))
            count = len(await loop.sock_recv(theirs, 1))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            transport.close()
            while data := await loop.sock_recv(theirs, 1 << 16):
                count += len(data)
            assert file.tell() == 10 + count < 16 << 20
        await protocol.lost
        theirs.close()

    run(main())


@pytest.mark.parametrize("fallback", [False, True])
def test_sending_nothing_of_a_file_leaves_it_at_the_offset(loop: Any, run: Any, tmp_path: Any, fallback: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        with path.open("rb") as file:
            file.seek(2)
            assert await loop.sendfile(transport, file, 7, fallback=fallback) == 0
            assert file.tell() == 7
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


def test_nothing_is_sent_of_what_has_no_size(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        reads, writes = os.pipe()
        with open(reads, "rb") as file, open(writes, "wb"):
            assert await loop.sendfile(transport, file) == 0
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())
