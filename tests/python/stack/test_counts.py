"""How much of its data a protocol has used (S71 to S77), and what it is called (S49, S50)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder


async def pair_of(answer: Callable[[Recorder, bytes], Any]) -> Pair:
    return await Pair.make(server=lambda: Recorder(answer))


# S71, S74
def test_what_a_count_leaves_heads_the_next_call(run: Any) -> None:
    async def main() -> list[bytes]:
        seen: list[bytes] = []

        def one_message(protocol: Recorder, data: bytes) -> int:
            seen.append(data)
            if len(data) < 3:
                return 0
            protocol.data += data[:3]
            return 3

        pair = await pair_of(one_message)
        pair.client.transport.write(b"abcdefgh")
        await pair.server.until_data(b"abcdef")
        pair.client.transport.write(b"i")
        await pair.server.until_data(b"abcdefghi")
        await pair.close()
        return seen

    assert run(main()) == [b"abcdefgh", b"defgh", b"gh", b"ghi"]


# S72, S73
@pytest.mark.parametrize("whole", [lambda data: None, len], ids=["none", "length"])
def test_none_and_the_length_mean_all(run: Any, whole: Callable[[bytes], int | None]) -> None:
    async def main() -> None:
        def all_of_it(protocol: Recorder, data: bytes) -> int | None:
            protocol.data += data
            return whole(data)

        pair = await pair_of(all_of_it)
        for piece in (b"ab", b"cd"):
            pair.client.transport.write(piece)
            await pair.server.until(lambda piece=piece: pair.server.data.endswith(piece))
        assert pair.server.data == b"abcd"
        await pair.close()

    run(main())


# S75
@pytest.mark.parametrize(
    ("count", "error"),
    [
        (True, TypeError),
        ("3", TypeError),
        (1.0, TypeError),
        (-1, ValueError),
        (4, ValueError),
        (2**70, ValueError),
        (b"abc", TypeError),
    ],
)
def test_a_wrong_count_costs_that_connection_and_says_why(
    run: Any, count: object, error: type[Exception]
) -> None:
    async def main() -> None:
        pair = await pair_of(lambda protocol, data: count)
        pair.client.transport.write(b"abc")
        told = await pair.server.lost
        assert (type(told) is error and "data_received() returned" in str(told)) or isinstance(
            told, TypeError
        )
        assert await pair.client.lost is None or isinstance(pair.client.lost.result(), OSError)
        await pair.listener.drain(0)

    (problem,) = run(main(), expected_problems=1)
    assert type(problem["exception"]) is error


def test_an_input_buffer_that_is_full_without_progress_is_told(run: Any) -> None:
    async def main() -> None:
        pair = await pair_of(lambda protocol, data: 0)
        pair.server.transport.set_read_limit(1000)
        pair.client.transport.write(bytes(5000))
        told = await pair.server.lost
        assert isinstance(told, tepal.InputStalled)
        assert pair.server.transport.closed.kind is tepal.CloseKind.INPUT_STALLED
        assert pair.server.transport.closed.unread >= 1000
        await pair.client.lost
        await pair.listener.drain(0)

    run(main())


def test_a_low_mark_keeps_a_growing_message_linear(run: Any) -> None:
    async def main() -> None:
        calls: list[int] = []

        def whole(protocol: Recorder, data: bytes) -> int:
            calls.append(len(data))
            if len(data) < 9:
                return 0
            protocol.data += data[:9]
            return 9

        pair = await pair_of(whole)
        pair.server.transport.set_read_low(9)
        for byte in b"abcdefghi":
            pair.client.transport.write(bytes([byte]))
            await asyncio.sleep(0.001)
        await pair.server.until_data(b"abcdefghi")
        # Below the mark only the end of input calls it.
        pair.client.transport.write(b"jk")
        pair.client.transport.write_eof()
        await pair.server.lost
        assert calls == [9, 2]
        await pair.close()

    run(main())


@pytest.mark.parametrize("low", [0, -1, 1 << 40])
def test_a_low_mark_out_of_range_is_refused(run: Any, low: int) -> None:
    async def main() -> None:
        pair = await Pair.make()
        with pytest.raises(ValueError):
            pair.server.transport.set_read_low(low)
        with pytest.raises(TypeError):
            pair.server.transport.set_read_low(True)
        await pair.close()

    run(main())


def test_results_of_plain_protocols_are_ignored_on_asyncios_entries(run: Any) -> None:
    class Plain(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> str:
            self.transport.write(data)
            return "not a count"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Plain, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
        transport.write(b"abc")
        await protocol.until_data(b"abc")
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())


def test_counts_of_a_tepal_protocol_are_read_on_asyncios_entries_too(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        def halves(protocol: Recorder, data: bytes) -> int:
            protocol.data += data[:2]
            return min(2, len(data))

        def factory() -> Recorder:
            protocol = Recorder(halves)
            accepted.set_result(protocol)
            return protocol

        server = await loop.create_server(factory, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
        transport.write(b"abcde")
        peer = await accepted
        await peer.until_data(b"abcde")
        transport.close()
        await asyncio.gather(protocol.lost, peer.lost)
        server.close()
        await server.wait_closed()

    run(main())


# S49, S50
def test_pep_3156s_other_names_work(run: Any) -> None:
    class Other(tepal.Protocol):
        def __init__(self) -> None:
            self.calls: list[Any] = []
            self.lost = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def io_in(self, data: bytes) -> int:
            self.calls.append(data)
            self.transport.write(bytes(1 << 24))
            return len(data)

        def io_out(self) -> None:
            self.calls.append("out")
            self.transport.close()

        def pause_io_out(self) -> None:
            self.calls.append("pause")

        def resume_io_out(self) -> None:
            self.calls.append("resume")

        def connection_lost(self, exc: Any) -> None:
            self.lost.set_result(exc)

    async def main() -> Any:
        pair = await Pair.make(server=Other, wait=False)
        await pair.client.transport.established()
        pair.client.transport.write(b"go")
        await pair.client.until(lambda: len(pair.client.data) == 1 << 24)
        assert await pair.server.lost is None
        await pair.client.lost
        await pair.listener.drain(0)
        return pair.server.calls

    assert run(main()) == [b"go", "pause", "resume", "out"]


def test_asyncios_name_wins_where_both_are_overridden() -> None:
    class Both(tepal.Protocol):
        def __init__(self) -> None:
            self.calls: list[str] = []

        def data_received(self, data: bytes) -> int | None:
            self.calls.append("data_received")
            return None

        def io_in(self, data: bytes) -> int | None:
            self.calls.append("io_in")
            return None

    async def main() -> list[str]:
        pair = await Pair.make(server=Both, wait=False)
        await pair.client.transport.established()
        pair.client.transport.write(b"x")
        while not pair.server.calls:
            await asyncio.sleep(0.001)
        pair.client.transport.close()
        await pair.client.lost
        await pair.listener.drain(1)
        calls: list[str] = pair.server.calls
        return calls

    with asyncio.Runner(loop_factory=tepal.new_event_loop) as runner:
        assert runner.run(main()) == ["data_received"]


def test_transports_have_the_other_names(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make()
        transport = pair.server.transport
        for pause, resume in (
            ("pause", "resume"),
            ("pause_in", "resume_in"),
            ("pause_io_in", "resume_io_in"),
        ):
            getattr(transport, pause)()
            assert not transport.is_reading()
            getattr(transport, resume)()
            assert transport.is_reading()
        await pair.close()

    run(main())


# S76, S77
def test_the_line_helper_switches_to_raw_bytes_and_back(run: Any) -> None:
    class Server(tepal.LineProtocol):
        delimiter = b"\r\n"

        def __init__(self) -> None:
            self.seen: list[Any] = []
            self.left = 0

        def line_received(self, line: bytes) -> None:
            self.seen.append(line)
            if line.startswith(b"RAW "):
                self.left = int(line[4:])
                self.raw = True

        def raw_received(self, data: bytes) -> int:
            used = min(self.left, len(data))
            self.seen.append(("raw", data[:used]))
            self.left -= used
            self.raw = self.left > 0
            return used

    async def main() -> list[Any]:
        pair = await Pair.make(server=Server, wait=False)
        await pair.client.transport.established()
        pair.client.transport.write(b"one\r\ntwo\r\nRAW 5\r\nab\r\ncthree\r\nfo")
        pair.client.transport.write(b"ur\r\n")
        while len(pair.server.seen) < 6:
            await asyncio.sleep(0.001)
        assert not hasattr(pair.server, "buffer")
        pair.client.transport.close()
        await pair.client.lost
        await pair.listener.drain(1)
        seen: list[Any] = pair.server.seen
        return seen

    assert run(main()) == [b"one", b"two", b"RAW 5", ("raw", b"ab\r\nc"), b"three", b"four"]


@pytest.mark.parametrize("step", [1, 2, 5, 100])
def test_the_netstring_helper_takes_its_input_in_any_pieces(run: Any, step: int) -> None:
    class Server(tepal.NetstringProtocol):
        def __init__(self) -> None:
            self.seen: list[bytes] = []

        def string_received(self, data: bytes) -> None:
            self.seen.append(data)

    async def main() -> None:
        pair = await Pair.make(server=Server, wait=False)
        await pair.client.transport.established()
        stream = b"3:abc,0:,10:0123456789,1:,,"
        for start in range(0, len(stream), step):
            pair.client.transport.write(stream[start : start + step])
            await asyncio.sleep(0.001)
        while len(pair.server.seen) < 4:
            await asyncio.sleep(0.001)
        assert pair.server.seen == [b"abc", b"", b"0123456789", b","]
        pair.client.transport.close()
        await pair.client.lost
        await pair.listener.drain(1)

    run(main())


@pytest.mark.parametrize(
    "bad", [b"x:abc,", b"03:abc,", b":,", b"3:abcd", b"99999999:", b"12345678"]
)
def test_the_netstring_helper_refuses_what_is_none(run: Any, bad: bytes) -> None:
    async def main() -> None:
        pair = await Pair.make(server=tepal.NetstringProtocol, wait=False)
        await pair.client.transport.established()
        pair.client.transport.write(bad)
        await pair.client.lost
        await pair.listener.drain(1)

    run(main(), expected_problems=1)
