"""Stacks of layers, from Python: proxies' headers, frames, rates, and layers on asyncio's entries."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, client_tls, record_and_echo, server_tls


def test_a_proxy_header_and_what_follows_in_one_segment(run: Any) -> None:
    async def main() -> None:
        layers = [tepal.ProxyHeader(trusted=["127.0.0.0/8"]), tepal.Lines(delimiter=b"\r\n")]
        pair = await Pair.make(server_layers=layers, wait=False)
        await pair.client.transport.established()
        pair.client.transport.write(b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\nhello\r\n")
        await pair.server.until_data(b"hello")
        info = pair.server.transport.layer_info("proxy")
        assert info.source == ("192.0.2.1", 1234) and info.destination == ("198.51.100.2", 443)
        assert pair.server.transport.layers == ("lines",)
        await pair.close()

    run(main())


def test_a_proxy_header_and_a_client_hello_in_one_segment(run: Any) -> None:
    async def main() -> None:
        server_layers = [tepal.ProxyHeader(trusted=["127.0.0.1"]), server_tls()]
        pair = await Pair.make([tepal.ProxyHeader(), client_tls()], server_layers)
        pair.client.transport.write(b"x")
        await pair.server.until_data(b"x")
        assert pair.server.transport.layer_info("proxy").version == 2
        await pair.close()

    run(main())


def test_a_header_from_an_address_that_is_not_trusted_is_refused(run: Any) -> None:
    async def main() -> None:
        layers = [tepal.ProxyHeader(trusted=["192.0.2.0/24"])]
        pair = await Pair.make([tepal.ProxyHeader()], layers, wait=False)
        told = await pair.server.lost
        assert isinstance(told, tepal.HandshakeError) and told.closed.layer_kind == "Untrusted"
        pair.client.transport.abort()
        await pair.client.lost
        await pair.listener.drain(0)

    run(main())


def test_one_write_is_one_frame(run: Any) -> None:
    frames = [b"", b"a", b"line two", bytes(range(200)) * 5]

    async def main() -> None:
        for spec in (
            tepal.LengthPrefixed(),
            tepal.LengthPrefixed(width=2, byteorder="little"),
            tepal.Netstrings(),
            tepal.Delimiter(b"\xff\xfe"),
        ):
            seen: list[bytes] = []
            pair = await Pair.make(
                [spec], [spec], server=lambda seen=seen: Recorder(lambda _, data: seen.append(data))
            )
            for frame in frames:
                pair.client.transport.write(frame)
            await pair.server.until(lambda seen=seen: len(seen) >= len(frames))
            assert seen == frames
            await pair.close()

    run(main())


def test_a_frame_that_is_too_long_fails_its_layer_by_name(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([], [tepal.LengthPrefixed(max_length=100)])
        pair.client.transport.write((1 << 30).to_bytes(4, "big"))
        told = await pair.server.lost
        assert isinstance(told, tepal.LayerError) and told.layer == "length"
        assert told.closed.layer_kind == "FrameTooLong" and told.closed.fault == "remote"
        await pair.client.lost
        await pair.listener.drain(0)

    run(main())


def test_lines_switch_to_raw_bytes_by_a_command(run: Any) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        def serve(protocol: Recorder, data: bytes) -> None:
            seen.append(data)
            if data == b"RAW":
                protocol.transport.command("lines", "raw")

        pair = await Pair.make(server_layers=[tepal.Lines()], server=lambda: Recorder(serve))
        pair.client.transport.write(b"one\nRAW\nno\nlines")
        await pair.server.until(lambda: b"".join(seen).endswith(b"lines"))
        assert seen == [b"one", b"RAW", b"no\nlines"]
        with pytest.raises(KeyError):
            pair.server.transport.command("tls", "x")
        with pytest.raises(TypeError):
            pair.server.transport.command(3, "x")
        await pair.close()

    run(main())


# S37
def test_a_rate_is_held(run: Any) -> None:
    async def main() -> None:
        rate, size = 400_000, 200_000
        pair = await Pair.make([tepal.RateLimit(write=rate, burst=4000)])
        started = time.monotonic()
        pair.client.transport.write(bytes(size))
        await pair.server.until(lambda: len(pair.server.data) == size)
        took = time.monotonic() - started
        # Never faster; a loaded machine may be slower.
        assert took >= (size - 4000) / rate * 0.95
        await pair.close()

    run(main())


def test_an_idle_layer_tells_of_quiet_and_the_connection_stays_up(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([tepal.Idle(0.02)])
        await pair.client.until_event("idle idle")
        pair.client.transport.write(b"keep-alive")
        await pair.server.until_data(b"keep-alive")
        await pair.close()

    run(main())


def test_a_tap_records_both_directions_and_its_failure_costs_nothing(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", unraisable.append)

    async def main() -> None:
        record: list[bytes] = []
        pair = await Pair.make(
            [tepal.Tap(record.append)],
            [tepal.Tap(lambda data: 1 / 0, format="pcapng")],
            server=lambda: Recorder(record_and_echo),
        )
        pair.client.transport.write(b"seen by the tap")
        await pair.client.until_data(b"seen by the tap")
        text = b"".join(record)
        assert text.count(b"seen by the tap") == 2
        await pair.close()

    run(main())
    assert any(isinstance(each.exc_value, ZeroDivisionError) for each in unraisable)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: t.push_layer(None), TypeError),
        (lambda t: t.push_layer(tepal.Lines), TypeError),
        (lambda t: t.push_layer(tepal.Lines(), below="tls"), KeyError),
        (lambda t: t.push_layer(tepal.Lines(), below=3), TypeError),
        (lambda t: t.push_layer(tepal.Lines(), residual="keep"), ValueError),
        (lambda t: t.pop_layer(), KeyError),
        (lambda t: t.pop_layer("tls"), KeyError),
        (lambda t: t.pop_layer(3), KeyError),
        (lambda t: t.pop_layer(-1), KeyError),
        (lambda t: t.pop_layer(1 << 64), KeyError),
        (lambda t: t.pop_layer(True), TypeError),
        (lambda t: t.pop_layer(b"tls"), TypeError),
        (lambda t: t.pop_layer(timeout=-1), ValueError),
        (lambda t: t.pop_layer(late="never"), ValueError),
        (lambda t: t.layer_info(3), TypeError),
    ],
)
def test_a_wrong_change_is_refused_and_changes_nothing(
    run: Any, call: Any, error: type[Exception]
) -> None:
    async def main() -> None:
        pair = await Pair.make()
        with pytest.raises(error):
            call(pair.client.transport)
        pair.client.transport.write(b"as before")
        await pair.server.until_data(b"as before")
        await pair.close()
        with pytest.raises((error, RuntimeError)):
            call(pair.client.transport)

    run(main())


def test_layers_on_asyncios_entries_keep_its_timing(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        class Echo(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                assert transport.get_extra_info("tls") is not None
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        server = await loop.create_server(Echo, "127.0.0.1", 0, layers=[server_tls()])
        port = server.sockets[0].getsockname()[1]
        made: list[Any] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        transport, protocol = await loop.create_connection(
            factory, "127.0.0.1", port, layers=[client_tls()]
        )
        assert made == [protocol] and protocol.events == ["made"]
        transport.write(b"abc")
        await protocol.until_data(b"abc")
        transport.close()
        await protocol.lost
        # S56: no protocol is made for a connection that is none.
        with pytest.raises(tepal.HandshakeError):
            await loop.create_connection(
                factory, "127.0.0.1", port, layers=[client_tls("elsewhere.test")]
            )
        assert len(made) == 1
        with pytest.raises(ValueError, match="ssl and layers"):
            await loop.create_connection(
                factory, "127.0.0.1", port, ssl=True, layers=[client_tls()]
            )
        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(lambda: 1 / 0, "127.0.0.1", port, layers=[client_tls()])
        server.close()
        await server.wait_closed()

    run(main())


def test_a_server_drains_and_aborts_who_stays(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make()
        assert await pair.listener.drain(0.01) == 1
        assert isinstance(await pair.client.lost, ConnectionResetError)
        assert pair.server.transport.closed.kind is tepal.CloseKind.ABORTED
        other = await Pair.make()
        draining = asyncio.ensure_future(other.listener.drain(20))
        other.client.transport.close()
        assert await draining == 0

    run(main())
