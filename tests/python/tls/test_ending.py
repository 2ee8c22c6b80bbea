"""How `ssl=` connections end, and what each side is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

import pytest
from peers import VERSIONS, BufferedRecorder, Peer, Recorder, client_context, connected, server_context, sockets, turns


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_peer_closes_properly(run: Any, loop: Any, version: Any, factory: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(version, factory)
        await peer.write(b"last words")
        await peer.say_goodbye()
        await protocol.lost
        peer.close()
        assert protocol.data == b"last words"
        assert protocol.story() == ["connection_made", "eof_received", "connection_lost"]
        assert protocol.error is None and transport.is_closing()
        if loop.way != "asyncio":
            assert transport.closed.kind == "peer_closed_layer" and transport.closed.clean
            assert transport.problem is None

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_the_bytes_are_cut_off(run: Any, loop: Any, version: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(version)
        await peer.write(b"half of it")
        peer.close()
        await protocol.lost
        # asyncio calls it a clean end; the record does not.
        assert protocol.data == b"half of it" and protocol.error is None
        assert protocol.story() == ["connection_made", "eof_received", "connection_lost"]
        if loop.way != "asyncio":
            assert transport.closed.kind == "tls_truncated" and not transport.closed.clean

    run(main())


def test_the_peer_resets(run: Any, loop: Any) -> None:
    async def main() -> None:
        _, protocol, peer = await connected()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await protocol.lost
        assert isinstance(protocol.error, ConnectionResetError)
        assert protocol.story() == ["connection_made", "connection_lost"]

    run(main())


def test_a_record_that_was_tampered_with_ends_the_connection_with_the_same_error(run: Any, loop: Any) -> None:
    async def main() -> None:
        _, protocol, peer = await connected(ssl.TLSVersion.TLSv1_3)
        peer.tls.write(b"good")
        good = peer.outgoing.read()
        peer.tls.write(b"evil")
        bad = bytearray(peer.outgoing.read())
        bad[-1] ^= 1
        await loop.sock_sendall(peer.sock, good)
        while not protocol.data:
            await asyncio.sleep(0)
        await loop.sock_sendall(peer.sock, bad)
        await protocol.lost
        peer.close()
        error = protocol.error
        assert type(error) is ssl.SSLError and error.library == "SSL"
        # The second is a newer OpenSSL's word for it.
        assert any(word in error.reason for word in ("BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"))
        assert protocol.data == b"good"

    run(main())


def test_data_before_an_error_in_one_segment_arrives(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        _, protocol, peer = await connected(ssl.TLSVersion.TLSv1_3)
        peer.tls.write(b"good")
        both = peer.outgoing.read() + b"\x17\x03\x03\x00\x13" + bytes(19)
        await own_loop.sock_sendall(peer.sock, both)
        await protocol.lost
        peer.close()
        assert protocol.data == b"good" and isinstance(protocol.error, ssl.SSLError)

    run(main())


def test_a_certificate_that_is_not_trusted(run: Any, loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        peer = Peer(theirs, server_context(name="self"), server_side=True)
        connecting = loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="server.test")
        result, alert = await asyncio.gather(connecting, peer.handshake(), return_exceptions=True)
        peer.close()
        assert type(result) is ssl.SSLCertVerificationError
        assert result.reason == "CERTIFICATE_VERIFY_FAILED" and result.verify_code == 18
        if loop.way != "asyncio":  # which does not tell the peer
            assert isinstance(alert, ssl.SSLError) and "ALERT" in alert.reason
        await turns()

    run(main())


@pytest.mark.parametrize("name", ["other", "server"])
def test_a_certificate_for_another_host(run: Any, loop: Any, name: str) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        peer = Peer(theirs, server_context(name=name), server_side=True)
        connecting = loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="third.test")
        result, _ = await asyncio.gather(connecting, peer.handshake(), return_exceptions=True)
        peer.close()
        assert type(result) is ssl.SSLCertVerificationError and "third.test" in str(result)
        await turns()

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_the_certificate_that_is_asked_for(run: Any, loop: Any, version: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        context = server_context(version)
        context.verify_mode = ssl.CERT_REQUIRED
        peer = Peer(theirs, context, server_side=True)
        connecting = loop.create_connection(
            Recorder, sock=ours, ssl=client_context(version), server_hostname="server.test"
        )
        result, refused = await asyncio.gather(connecting, peer.handshake(), return_exceptions=True)
        assert isinstance(refused, ssl.SSLError)
        if isinstance(result, tuple):  # TLS 1.3: the client is done before the server has looked
            _, protocol = result
            await protocol.lost
            result = protocol.error
        peer.close()
        assert isinstance(result, ssl.SSLError) and "ALERT" in result.reason
        await turns()

    run(main())


def test_a_handshake_that_takes_too_long(run: Any, loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        connecting = loop.create_connection(
            Recorder, sock=ours, ssl=client_context(), server_hostname="server.test", ssl_handshake_timeout=0.05
        )
        with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.05 seconds"):
            await connecting
        theirs.close()
        await turns()

    run(main())


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
def test_timeouts_have_to_be_positive(run: Any, loop: Any, name: str, value: float) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        with ours, theirs, pytest.raises(ValueError, match=f"{name} should be a positive number, got {value}"):
            await loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname="x", **{name: value}
            )

    run(main())


def test_the_peer_ends_inside_the_handshake(run: Any, loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        connecting = asyncio.ensure_future(
            loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="server.test")
        )
        await loop.sock_recv(theirs, 1 << 16)
        theirs.close()
        with pytest.raises(ConnectionResetError):
            await connecting
        await turns()

    run(main())


def test_a_peer_that_does_not_answer_the_close_is_left_after_a_time(run: Any, loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(ssl_shutdown_timeout=0.05)
        transport.close()
        await protocol.lost
        peer.close()
        assert isinstance(protocol.error, TimeoutError)

    run(main())


def test_a_close_sends_all_that_was_written(run: Any, loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        data = bytes(range(256)) * 8000
        transport.write(data)
        transport.close()
        transport.write(b"too late")
        assert await peer.read(len(data)) == data and await peer.read(1) == b""
        await peer.finish()
        await protocol.lost
        assert protocol.error is None

    run(main())


def test_a_close_while_the_peer_sends_loses_nothing_and_is_no_error(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        data = bytes(range(256)) * 8000
        transport.write(data)
        transport.close()
        peer.tls.write(b"talking on")
        await peer.flush()
        assert await peer.read(len(data)) == data
        await peer.finish()
        await protocol.lost
        assert protocol.error is None and not protocol.data

    run(main())


def test_an_abort_ends_at_once(run: Any, loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        transport.write(bytes(5_000_000))
        transport.abort()
        transport.abort()
        transport.close()
        await protocol.lost
        assert protocol.error is None and transport.is_closing()
        assert protocol.story() in (
            ["connection_made", "connection_lost"],
            ["connection_made", "pause_writing", "connection_lost"],
        )
        peer.close()

    run(main())


@pytest.mark.parametrize("closes_first", [True, False])
def test_a_peer_that_has_ended_and_does_not_read_is_given_up(run: Any, own_loop: Any, closes_first: bool) -> None:
    # asyncio does so from 3.14.10 on; before, such a connection stayed for ever.
    async def main() -> None:
        transport, protocol, peer = await connected(ssl_shutdown_timeout=0.05)
        while "pause_writing" not in protocol.events:
            transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
        if closes_first:
            transport.close()
        peer.sock.shutdown(socket.SHUT_WR)
        await protocol.lost
        peer.close()
        assert isinstance(protocol.error, TimeoutError)
        # What came first is kept.
        assert transport.closed.kind == ("closing_timed_out" if closes_first else "tls_truncated")
        assert transport.closed.unsent > 0
        if not closes_first:
            # That the peer has ended is told at once, before the bytes that it will not read.
            assert "eof_received" in protocol.events

    run(main())
