"""Datagram transports."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest


class Recorder(asyncio.DatagramProtocol):
    def __init__(self, loop: Any) -> None:
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost = loop.create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_datagrams_go_to_literal_addresses_and_to_names(loop: Any, run: Any) -> None:
    async def main() -> None:
        def factory() -> Recorder:
            return Recorder(loop)

        one, first = await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
        two, second = await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
        address = two.get_extra_info("sockname")
        one.sendto(b"1", address)
        one.sendto(bytearray(b"2"), addr=("localhost", address[1]))
        await until(lambda: len(second.got) == 2)
        assert [data for data, _ in second.got] == [b"1", b"2"]
        assert second.got[0][1] == one.get_extra_info("sockname")
        two.sendto(b"back", second.got[0][1])
        await until(lambda: first.got)
        assert first.got == [(b"back", address)]
        for transport, protocol in ((one, first), (two, second)):
            assert isinstance(transport, asyncio.DatagramTransport)
            transport.close()
            assert await protocol.lost is None

    run(main())


def test_a_transport_with_a_peer_takes_no_other(loop: Any, run: Any) -> None:
    async def main() -> None:
        peer = socket.socket(type=socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), remote_addr=peer.getsockname()
        )
        transport.sendto(b"1")
        transport.sendto(b"2", peer.getsockname())
        with pytest.raises(ValueError, match="Invalid address: must be None or "):
            transport.sendto(b"3", ("127.0.0.1", 1))
        with pytest.raises(TypeError, match="bytes-like object, not 'str'"):
            transport.sendto("text")
        assert (peer.recv(9), peer.recv(9)) == (b"1", b"2")
        peer.close()
        transport.sendto(b"refused")
        await until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()
        transport.abort()
        assert await protocol.lost is None

    run(main())


def test_empty_datagrams_are_sent_as_this_python_sends_them(loop: Any, run: Any) -> None:
    async def main() -> None:
        peer = socket.socket(type=socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), remote_addr=peer.getsockname()
        )
        transport.sendto(b"")
        transport.sendto(b"x")
        assert peer.recv(9) == (b"" if sys.version_info >= (3, 13) else b"x")
        peer.close()
        transport.close()
        await protocol.lost

    run(main())


def test_a_callback_that_raises_is_told_and_the_endpoint_goes_on(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), local_addr=("127.0.0.1", 0)
        )
        error = ZeroDivisionError("mine")

        def fail(*_: Any) -> None:
            raise error

        keep, protocol.datagram_received = protocol.datagram_received, fail
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"1", transport.get_extra_info("sockname"))
            await until(lambda: loop.reports)
            assert loop.reports.pop()["exception"] is error
            protocol.datagram_received = keep
            peer.sendto(b"2", transport.get_extra_info("sockname"))
            await until(lambda: protocol.got)
        transport.close()
        await protocol.lost

    run(main())


def test_unix_datagrams_have_paths_for_addresses(loop: Any, run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: Recorder(loop), local_addr=path, family=socket.AF_UNIX
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(str(tmp_path / "peer"))
            peer.settimeout(5)
            peer.sendto(b"hi", path)
            await until(lambda: protocol.got)
            assert protocol.got == [(b"hi", str(tmp_path / "peer"))]
            transport.sendto(b"ho", protocol.got[0][1])
            assert peer.recvfrom(9) == (b"ho", path)
        transport.close()
        await protocol.lost

    run(main())
