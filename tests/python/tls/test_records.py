"""`closed`, `problem`, `phase` and `layers` of `ssl=` connections, which asyncio has not."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

import pytest
from peers import VERSIONS, Peer, Recorder, client_context, connected, server_context, sockets, turns

import tepal


def test_a_connection_tells_where_it_stands(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        seen: list[Any] = []

        def look(protocol: Recorder, event: str) -> None:
            seen.append((event, protocol.transport.phase, protocol.transport.closed is None))

        transport, protocol, peer = await connected(factory=lambda: Recorder(acts=look))
        assert transport.phase is tepal.Phase.ESTABLISHED and transport.layers == ("tls",)
        assert transport.closed is None and transport.problem is None
        transport.close()
        assert transport.phase is tepal.Phase.CLOSING and transport.closed is None
        await peer.finish()
        await protocol.lost
        assert seen == [
            ("connection_made", tepal.Phase.ESTABLISHED, True),
            ("eof_received", tepal.Phase.CLOSING, True),
            ("connection_lost", tepal.Phase.CLOSED, False),
        ]
        assert transport.layers == ()
        assert transport.closed == tepal.Closed(tepal.CloseKind.LOCAL, "closed by us", clean=True)

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_that_are_cut_off_are_told_apart_from_a_proper_end(run: Any, own_loop: Any, version: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(version)
        peer.close()
        await protocol.lost
        closed = transport.closed
        assert (closed.kind, closed.clean) == ("tls_truncated", False)
        assert (closed.layer, closed.layer_kind, closed.fault) == ("tls", "TlsTruncated", "remote")
        assert transport.problem.phase == "established" and transport.problem.layer == "tls"
        assert transport.problem.host == "server.test"

    run(main())


@pytest.mark.parametrize("proper", [True, False])
def test_an_end_that_comes_while_reading_is_paused_is_judged_by_what_is_read(
    run: Any, own_loop: Any, proper: bool
) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        transport.pause_reading()
        await peer.write(b"later")
        if proper:
            await peer.say_goodbye()
        peer.close()
        while not transport._ssl_protocol._below.is_closing() and transport.phase == "established":
            await asyncio.sleep(0)
        transport.resume_reading()
        await protocol.lost
        assert protocol.data == b"later"
        assert transport.closed.kind == ("peer_closed_layer" if proper else "tls_truncated")

    run(main())


def test_a_reset_is_the_kernels(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        await protocol.lost
        closed = transport.closed
        assert closed.kind == "reset" and isinstance(closed.error, ConnectionResetError)
        assert closed.layer is None and transport.problem.kind == "lost"

    run(main())


def test_an_alert_is_told_with_its_number(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        context = server_context(ssl.TLSVersion.TLSv1_3)
        context.verify_mode = ssl.CERT_REQUIRED
        peer = Peer(theirs, context, server_side=True)
        connecting = own_loop.create_connection(
            Recorder, sock=ours, ssl=client_context(ssl.TLSVersion.TLSv1_3), server_hostname="server.test"
        )
        (transport, protocol), refused = await asyncio.gather(
            connecting, peer.handshake(), return_exceptions=True
        )
        assert isinstance(refused, ssl.SSLError)
        await protocol.lost
        peer.close()
        closed = transport.closed
        assert (closed.kind, closed.layer_kind, closed.code) == ("tls_alert", "TlsAlert", 116)
        assert closed.fault == "remote" and "ALERT" in closed.text

    run(main())


def test_a_record_that_was_tampered_with_is_the_layers_failure(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(ssl.TLSVersion.TLSv1_3)
        await own_loop.sock_sendall(peer.sock, b"\x17\x03\x03\x00\x13" + bytes(19))
        await protocol.lost
        peer.close()
        assert transport.closed.kind == "layer_failed" and transport.closed.layer == "tls"
        assert isinstance(transport.problem.cause, ssl.SSLError)

    run(main())


def test_what_a_protocol_raises_is_no_failure_of_tls(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(factory=lambda: Recorder(raises=("data_received",)))
        await peer.write(b"x")
        await protocol.lost
        peer.close()
        assert transport.closed.kind == "protocol_failed" and transport.closed.layer is None
        assert len(own_loop.reports) == 1
        own_loop.reports.clear()

    run(main())


def test_a_peer_that_does_not_answer_the_close_is_told_as_that(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected(ssl_shutdown_timeout=0.05)
        transport.close()
        await protocol.lost
        peer.close()
        assert transport.closed.kind == "closing_timed_out"

    run(main())


def test_an_abort_counts_what_did_not_leave(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        transport, protocol, peer = await connected()
        transport.write(bytes(5_000_000))
        transport.abort()
        await protocol.lost
        peer.close()
        closed = transport.closed
        assert closed.kind == "aborted" and closed.clean
        assert 3_000_000 < closed.unsent < 5_100_000

    run(main())


def test_an_abort_counts_what_was_not_read(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        # Without the tickets that TLS 1.3 sends after the handshake.
        transport, protocol, peer = await connected(ssl.TLSVersion.TLSv1_2)
        transport.pause_reading()
        await peer.write(bytes(100))
        while transport.get_read_buffer_size() < 100:
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        peer.close()
        assert 100 <= transport.closed.unread < 200

    run(main())


@pytest.mark.parametrize("how", ["late", "ends", "refuses"])
def test_a_handshake_that_fails_is_told_with_its_phase(run: Any, own_loop: Any, how: str) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        raw, _ = await own_loop.create_connection(asyncio.Protocol, sock=ours)
        context = client_context()
        made: list[Any] = []

        class Transport(tepal._tls.SSLTransport):
            def connection_made(self, transport: Any) -> None:
                made.append(self)
                assert self.phase == "handshake" and self.closed is None
                super().connection_made(transport)

        waiter = own_loop.create_future()
        tls = Transport(
            own_loop, Recorder(), context, waiter, False, "server.test", ssl_handshake_timeout=0.05 if how == "late" else 5
        )
        raw.set_protocol(tls)
        tls.connection_made(raw)
        if how == "ends":
            await own_loop.sock_recv(theirs, 1 << 16)
            theirs.close()
        elif how == "refuses":
            peer = Peer(theirs, server_context(name="self"), server_side=True)
            with pytest.raises(ssl.SSLError):
                await peer.handshake()
        with pytest.raises(OSError):
            await waiter
        while tls.closed is None:
            await asyncio.sleep(0)
        theirs.close()
        closed, problem = tls.closed, tls.problem
        kinds = {"late": "handshake_timed_out", "ends": "handshake_failed", "refuses": "handshake_failed"}
        layer_kinds = {"late": "HandshakeTimeout", "ends": "EofInHandshake", "refuses": "TlsCertificate"}
        assert (closed.kind, closed.layer_kind) == (kinds[how], layer_kinds[how])
        assert made == [tls] and tls.phase == "closed"
        assert (problem.phase, problem.layer, problem.host) == ("handshake", "tls", "server.test")
        assert problem.kind == ("timed_out" if how == "late" else "layer")
        assert problem.address[0] == "127.0.0.1" and problem.elapsed >= 0 and problem.cause is not None
        await turns()

    run(main())


def test_start_tls_inside_tls_has_two_layers(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        arrived = own_loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(server_context())
            arrived.set_result(writer)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        outer, _ = await own_loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="server.test"
        )
        protocol = Recorder()
        inner = await own_loop.start_tls(outer, protocol, client_context(), server_hostname="server.test")
        writer = await arrived
        assert inner.layers == ("tls", "tls") and outer.layers == ("tls",)
        inner.close()
        await protocol.lost
        assert inner.closed.kind == "local" and outer.closed is not None
        server.close()
        writer.close()
        await turns()

    run(main())
