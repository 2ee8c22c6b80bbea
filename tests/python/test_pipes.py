"""Pipes as transports: asyncio's loop is the judge."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorders import Loop, Recorder, over, pipe, read_end, turn, write_end

pytestmark = pytest.mark.usefixtures("ledger")


def test_a_pipe_passes_bytes_and_its_end(any_loop: Loop) -> None:
    reader, writer = pipe()
    ours, theirs = read_end(any_loop, reader), write_end(any_loop, writer)
    theirs.transport.write(b"one")
    theirs.transport.writelines([b"two", bytearray(b"three"), memoryview(b"four")])
    theirs.transport.write_eof()
    theirs.transport.write(b"too late")
    assert theirs.transport.is_closing()
    over(any_loop, ours)
    over(any_loop, theirs)
    assert (ours.data, ours.heard, ours.error) == (b"onetwothreefour", ["made", "eof", "lost"], None)
    assert (theirs.heard, theirs.error) == (["made", "lost"], None)
    for file, protocol in ((reader, ours), (writer, theirs)):
        assert file.closed
        assert protocol.transport.get_extra_info("pipe") is file
        assert protocol.transport.get_extra_info("nothing", 7) == 7
        assert "closed" in repr(protocol.transport)


def test_what_a_transport_of_a_pipe_is(any_loop: Loop) -> None:
    reader, writer = pipe()
    ours, theirs = read_end(any_loop, reader).transport, write_end(any_loop, writer).transport
    assert isinstance(ours, asyncio.ReadTransport) and not isinstance(ours, asyncio.WriteTransport)
    assert isinstance(theirs, asyncio.WriteTransport)
    for name in ("write", "writelines", "write_eof", "can_write_eof", "abort", "get_write_buffer_size"):
        assert (hasattr(ours, name), hasattr(theirs, name)) == (False, True)
    for name in ("pause_reading", "resume_reading", "is_reading"):
        assert callable(getattr(ours, name))
        # asyncio's mixin is of a transport in both directions.
        with pytest.raises(NotImplementedError):
            getattr(theirs, name)()
    assert theirs.can_write_eof()
    assert theirs.get_write_buffer_limits() == (16384, 65536)
    assert f"fd={reader.fileno()}" in repr(ours)
    assert f"fd={writer.fileno()}" in repr(theirs)
    with pytest.raises(AssertionError, match="'text'"):
        theirs.write("text")
    with pytest.raises(TypeError):
        theirs.writelines([b"bytes", "text"])
    for call in ("sendfile", "start_tls"):
        arguments = (theirs, io.BytesIO(b"")) if call == "sendfile" else (theirs, None, None)
        with pytest.raises((RuntimeError, TypeError)):
            any_loop.run_until_complete(getattr(any_loop, call)(*arguments))
    ours.close()
    theirs.abort()
    turn(any_loop, lambda: reader.closed and writer.closed)


def test_a_transport_of_a_pipe_lists_what_it_has(loop: Loop) -> None:
    reader, writer = pipe()
    ours, theirs = read_end(loop, reader), write_end(loop, writer)
    reading, writing = ours.transport, theirs.transport
    reading.note = None
    assert {"pause_reading", "close", "set_protocol", "note"} <= set(dir(reading))
    assert not {"write", "write_eof", "abort"} & set(dir(reading))
    assert {"write", "write_eof", "abort", "set_protocol"} <= set(dir(writing))
    for transport in (reading, writing):
        assert [name for name in dir(transport) if not hasattr(transport, name)] == []
        transport.close()
    over(loop, theirs)
    over(loop, ours)


def test_a_file_is_refused(any_loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    with open(tmp_path / "file", "r+b", 0) as file:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            read_end(any_loop, file)
        text = "^Pipe transport is only for pipes, sockets and character devices$"
        with pytest.raises(ValueError, match=text):
            write_end(any_loop, file)
        assert not file.closed


def test_the_descriptor_stays_non_blocking(any_loop: Loop) -> None:
    reader, writer = os.pipe()
    copies = os.dup(reader), os.dup(writer)
    ours, theirs = read_end(any_loop, os.fdopen(reader, "rb", 0)), write_end(any_loop, os.fdopen(writer, "wb", 0))
    theirs.transport.close()
    ours.transport.close()
    over(any_loop, ours)
    over(any_loop, theirs)
    assert [os.get_blocking(fd) for fd in copies] == [False, False]
    for fd in copies:
        os.close(fd)


def test_what_is_written_is_in_the_pipe_at_once(any_loop: Loop) -> None:
    reader, writer = pipe()
    transport = write_end(any_loop, writer).transport
    transport.write(b"now")
    assert transport.get_write_buffer_size() == 0
    assert reader.read(10) == b"now"
    transport.close()
    turn(any_loop, lambda: writer.closed)
    reader.close()


def test_writes_to_a_socket_of_messages_keep_their_borders(any_loop: Loop) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(10)
    transport = write_end(any_loop, ours).transport
    for message in (b"one", b"two", b"three"):
        transport.write(message)
    assert [theirs.recv(100) for _ in range(3)] == [b"one", b"two", b"three"]
    transport.close()
    turn(any_loop, lambda: ours.fileno() < 0)
    theirs.close()


def test_pressure_is_told_by_the_marks(any_loop: Loop) -> None:
    reader, writer = pipe()
    protocol = write_end(any_loop, writer)
    transport = protocol.transport
    transport.set_write_buffer_limits(high=1000, low=100)
    assert transport.get_write_buffer_limits() == (100, 1000)
    with pytest.raises(ValueError):
        transport.set_write_buffer_limits(high=1, low=2)
    transport.write(bytes(1 << 20))
    assert protocol.heard == ["made", "pause"]
    held = transport.get_write_buffer_size()
    assert 1000 < held < 1 << 20
    transport.write(b"more")
    assert transport.get_write_buffer_size() == held + 4
    ours = read_end(any_loop, reader)
    turn(any_loop, lambda: "resume" in protocol.heard and len(ours.data) == (1 << 20) + 4)
    transport.close()
    over(any_loop, protocol)
    over(any_loop, ours)


@pytest.mark.parametrize("way", ["pipe", "socket"])
@pytest.mark.parametrize("unsent", [False, True])
def test_the_write_end_learns_that_its_reader_has_left(any_loop: Loop, way: str, unsent: bool) -> None:
    reader, writer = pipe() if way == "pipe" else socket.socketpair()
    protocol = write_end(any_loop, writer)
    if unsent:
        protocol.transport.write(bytes(1 << 22))
    else:
        protocol.transport.write(b"all")
        assert os.read(reader.fileno(), 10) == b"all"
    reader.close()
    over(any_loop, protocol)
    if unsent:
        assert isinstance(protocol.error, (BrokenPipeError, ConnectionResetError))
    else:
        assert protocol.error is None
    assert protocol.transport.is_closing()
    protocol.transport.write(b"nobody is there")


def test_a_write_after_the_reader_has_left_costs_the_pipe(
    any_loop: Loop, reports: Callable[[], list[str]]
) -> None:
    reader, writer = pipe()
    protocol = write_end(any_loop, writer)
    reader.close()
    protocol.transport.write(b"nobody reads")
    assert protocol.transport.is_closing()
    over(any_loop, protocol)
    assert type(protocol.error) is BrokenPipeError and protocol.error.errno == errno.EPIPE
    assert reports() == []


def test_close_sends_what_waits_and_abort_does_not(any_loop: Loop) -> None:
    for end in ("close", "write_eof", "abort"):
        reader, writer = pipe()
        protocol = write_end(any_loop, writer)
        protocol.transport.write(bytes(1 << 20))
        getattr(protocol.transport, end)()
        any_loop.run_until_complete(asyncio.sleep(0.01))
        assert ("lost" in protocol.heard) == (end == "abort")
        ours = read_end(any_loop, reader)
        over(any_loop, protocol)
        over(any_loop, ours)
        assert protocol.error is None
        assert (len(ours.data) == 1 << 20) == (end != "abort")


def test_a_protocol_that_raises_does_not_cost_the_pipe(
    any_loop: Loop, reports: Callable[[], list[str]]
) -> None:
    class Raises(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ValueError("made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ValueError("data")

        def eof_received(self) -> bool:
            super().eof_received()
            raise ValueError("eof")

        def connection_lost(self, error: BaseException | None) -> None:
            super().connection_lost(error)
            raise ValueError("lost")

    reader, writer = pipe()
    protocol = read_end(any_loop, reader, Raises())
    for count in (1, 2):
        writer.write(b".")
        turn(any_loop, lambda count=count: len(protocol.data) == count)
    writer.close()
    over(any_loop, protocol)
    assert protocol.heard == ["made", "eof", "lost"] and protocol.error is None
    turn(any_loop, lambda: reader.closed)
    assert len(reports()) == 5


def is_reading(transport: Any, otherwise: bool) -> bool:
    """What a pipe's transport says; asyncio's own say nothing in the first releases of 3.11."""
    try:
        return bool(transport.is_reading())
    except NotImplementedError:
        return otherwise


def test_reading_is_paused_and_the_protocol_replaced(any_loop: Loop) -> None:
    class Pauses(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.pause_reading()

    reader, writer = pipe()
    first = read_end(any_loop, reader, Pauses())
    writer.write(b"one")
    turn(any_loop, lambda: first.data)
    writer.write(b"two")
    any_loop.run_until_complete(asyncio.sleep(0.01))
    assert (first.data, is_reading(first.transport, False)) == (b"one", False)
    second = Recorder()
    second.transport = first.transport
    first.transport.set_protocol(second)
    assert first.transport.get_protocol() is second
    first.transport.resume_reading()
    first.transport.resume_reading()
    assert is_reading(first.transport, True)
    writer.close()
    over(any_loop, second)
    assert (second.data, second.heard) == (b"two", ["eof", "lost"])
    assert not is_reading(first.transport, False)


def test_a_paused_pipe_tells_its_end_when_it_is_resumed(any_loop: Loop) -> None:
    reader, writer = pipe()
    protocol = read_end(any_loop, reader)
    protocol.transport.pause_reading()
    writer.write(b"last")
    writer.close()
    any_loop.run_until_complete(asyncio.sleep(0.01))
    assert (protocol.data, protocol.heard) == (b"", ["made"])
    protocol.transport.resume_reading()
    over(any_loop, protocol)
    assert (protocol.data, protocol.heard) == (b"last", ["made", "eof", "lost"])


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_a_pipe_is_closed_in_each_callback(any_loop: Loop, where: str) -> None:
    def closes(self: Recorder, *arguments: Any) -> Any:
        result = getattr(Recorder, where)(self, *arguments)
        self.transport.close()
        self.transport.close()
        return result

    reader, writer = pipe()
    protocol = read_end(any_loop, reader, type("Closes", (Recorder,), {where: closes})())
    if where == "connection_made":
        assert protocol.transport.is_closing()
    else:
        writer.write(b"some")
        turn(any_loop, lambda: protocol.data)
    writer.close()
    over(any_loop, protocol)
    assert protocol.heard.count("lost") == 1 and protocol.error is None
    turn(any_loop, lambda: reader.closed)


def test_a_stream_writer_over_a_pipe_drains(any_loop: Loop) -> None:
    reader, writer = pipe()

    async def main() -> None:
        flow = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport, _ = await any_loop.connect_write_pipe(lambda: flow, writer)
        out = asyncio.StreamWriter(transport, flow, None, any_loop)
        stream = asyncio.StreamReader()
        await any_loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), reader)

        async def send() -> None:
            for _ in range(50):
                out.write(bytes(20_000))
                await out.drain()
            out.close()
            await out.wait_closed()

        received, _ = await asyncio.gather(stream.read(), send())
        assert len(received) == 1_000_000

    any_loop.run_until_complete(asyncio.wait_for(main(), 10))
    turn(any_loop, lambda: reader.closed)


def test_a_protocol_lends_memory_to_a_pipe(loop: Any) -> None:
    class Lends(asyncio.BufferedProtocol):
        memory = bytearray(4)
        got = b""
        heard: list[str] = []

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.memory

        def buffer_updated(self, count: int) -> None:
            self.got += self.memory[:count]

        def connection_lost(self, error: BaseException | None) -> None:
            self.heard.append("lost")

    reader, writer = pipe()
    protocol = read_end(loop, reader, Lends())
    writer.write(b"in small pieces")
    writer.close()
    over(loop, protocol)
    assert protocol.got == b"in small pieces"


def test_a_closed_loop_makes_no_pipe(bare_loop: Loop) -> None:
    reader, writer = pipe()
    bare_loop.close()
    for made in (bare_loop.connect_read_pipe(Recorder, reader), bare_loop.connect_write_pipe(Recorder, writer)):
        with pytest.raises(RuntimeError, match="closed"):
            made.send(None)
    reader.close()
    writer.close()


def test_a_number_is_no_pipe(loop: Any) -> None:
    with pytest.raises(AttributeError):
        read_end(loop, 0)
