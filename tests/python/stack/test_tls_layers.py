"""TLS as a layer: handshakes, ends, STARTTLS, and TLS taken out and put in again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tepal

from .conftest import DATA, Pair, Recorder, client_tls, record_and_echo, server_tls

STARTTLS_EVIL = b"STARTTLS\r\nEVIL\r\n"


# S34
def test_tls_is_a_member_of_a_stack(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls()], [server_tls()], server=lambda: Recorder(record_and_echo))
        message = bytes(range(256)) * 1000
        pair.client.transport.write(message)
        await pair.client.until_data(message)
        assert pair.client.transport.layers == ("tls",)
        assert pair.client.transport.phase is tepal.Phase.ESTABLISHED
        info = pair.client.transport.layer_info("tls")
        assert (info.version, info.server_name, info.resumed) == ("TLSv1.3", "server.test", False)
        assert len(info.peer_certificates) >= 1
        assert pair.client.transport.get_extra_info("cipher")[1] == "TLSv1.3"
        assert pair.client.transport.get_extra_info("nothing", 3) == 3
        assert pair.client.events[:3] == ["made", "ready tls", "established"]
        assert await pair.close() == (None, None)
        assert "eof" in pair.server.events
        assert pair.client.transport.closed.kind is tepal.CloseKind.LOCAL
        assert pair.server.transport.closed.kind is tepal.CloseKind.PEER_CLOSED_LAYER
        assert pair.client.transport.phase is tepal.Phase.CLOSED

    run(main())


def test_bytes_written_before_the_connection_stands_arrive_in_order(run: Any) -> None:
    async def main() -> None:
        class Early(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                assert transport.phase is not tepal.Phase.ESTABLISHED
                transport.write(b"first ")
                transport.writelines([b"second ", bytearray(b"third")])

        pair = await Pair.make([client_tls()], [server_tls()], client=Early)
        await pair.server.until_data(b"first second third")
        await pair.close()

    run(main())


def test_alpn_and_client_certificates_are_agreed_on(run: Any) -> None:
    async def main() -> None:
        client = client_tls(
            alpn=["chat/2", b"chat/1"], certificate=DATA / "client.pem", key=DATA / "client.key"
        )
        pair = await Pair.make([client], [server_tls(alpn=["chat/1"], client_ca=DATA / "ca.pem")])
        assert pair.client.transport.get_extra_info("alpn") == b"chat/1"
        assert pair.server.transport.layer_info("tls").peer_certificates
        await pair.close()

    run(main())


# S45, S80
def test_a_rejected_client_certificate_is_an_alert_with_its_number(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls()], [server_tls(client_ca=DATA / "ca.pem")], wait=False)
        told, server_told = await asyncio.gather(pair.client.lost, pair.server.lost)
        assert isinstance(told, tepal.TLSAlert) and told.layer == "tls"
        assert (told.number, told.description) == (116, "certificate_required")
        assert told.closed.fault == "remote"
        assert isinstance(server_told, tepal.HandshakeError)
        await pair.listener.drain(0)

    run(main())


# S46, S80
def test_a_certificate_for_another_name_fails_the_handshake_with_a_typed_error(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls("elsewhere.test")], [server_tls()], wait=False)
        with pytest.raises(tepal.ConnectError) as caught:
            await pair.client.transport.established()
        told = await pair.client.lost
        assert isinstance(told, tepal.HandshakeError) and not isinstance(told, tepal.TLSAlert)
        assert told.closed.layer_kind == "TlsCertificate"
        # The hook and the end are told with one object.
        assert ("error", told) in pair.client.events
        assert caught.value.__cause__ is not None
        server_told = await pair.server.lost
        assert isinstance(server_told, tepal.TLSAlert)
        await pair.listener.drain(0)

    run(main())


# S44, S80: each end is told apart.
@pytest.mark.parametrize(
    ("how", "kind", "error"),
    [
        ("close", "peer_closed_layer", type(None)),
        ("abort", "reset", ConnectionResetError),
        ("cut", "tls_truncated", tepal.TLSTruncated),
    ],
)
def test_a_proper_end_of_tls_is_told_apart_from_a_reset_and_a_cut(
    run: Any, how: str, kind: str, error: type
) -> None:
    async def main() -> None:
        mode = "none" if how == "cut" else "wait"
        pair = await Pair.make([client_tls(close=mode)], [server_tls()])
        # Behind this the kernel holds nothing unread, which would make a reset of a close.
        pair.server.transport.write(b"x")
        await pair.client.until_data(b"x")
        if how == "abort":
            pair.client.transport.abort()
        else:
            pair.client.transport.close()
        told = await pair.server.lost
        await pair.client.lost
        assert type(told) is error, told
        closed = pair.server.transport.closed
        assert closed.kind == kind and closed.clean is (error is type(None))
        await pair.listener.drain(0)

    run(main())


# S39, S40, S41
def test_tls_can_be_closed_and_begun_anew_on_the_same_connection(run: Any) -> None:
    async def main() -> None:
        client_spec, server_spec = client_tls(), server_tls(peer_close="pop")
        pair = await Pair.make([client_spec], [server_spec])
        client, server = pair.client, pair.server
        client.transport.write(b"secret ")
        popped = client.transport.pop_layer()
        # Behind the close_notify, in plain text: written before the peer has answered.
        client.transport.write(b"plain ")
        assert await popped == "closed"
        await server.until_data(b"secret plain ")
        assert "removed tls by_peer" in server.events
        assert client.transport.layers == server.transport.layers == ()
        server.transport.write(b"and back")
        await client.until_data(b"and back")

        client.transport.write(b"STARTTLS ")
        await server.until_data(b"secret plain STARTTLS ")
        server.transport.write(b" OK")
        server.transport.push_layer(server_spec, residual="feed")
        await client.until_data(b"and back OK")
        client.transport.push_layer(client_spec)
        client.transport.write(b"secret again")
        await server.until_data(b"secret plain STARTTLS secret again")
        assert client.transport.layer_info("tls").resumed
        assert "added tls" in client.events and client.events.count("ready tls") == 2
        assert client.events.count("established") == 1
        assert await pair.close() == (None, None)

    run(main())


def test_of_two_layers_of_a_name_the_one_meant_is_taken_out(run: Any) -> None:
    async def main() -> None:
        # Two rates do nothing to the bytes, so one side may take out either.
        pair = await Pair.make([tepal.RateLimit(write=1 << 30)])
        transport = pair.client.transport
        lower = transport.layer_ids[0]
        upper = transport.push_layer(tepal.RateLimit(write=1 << 30))
        await pair.client.until_event("added rate")
        assert transport.layers == ("rate", "rate")
        assert transport.layer_ids == (lower, upper) and lower != upper
        assert await transport.pop_layer(lower) == "closed"
        assert transport.layer_ids == (upper,)
        # A name means the topmost that has it.
        third = transport.push_layer(tepal.RateLimit(write=1 << 30))
        assert await transport.pop_layer("rate") == "closed"
        assert transport.layer_ids == (upper,) and third not in transport.layer_ids
        with pytest.raises(KeyError):
            transport.pop_layer(third)
        # What was pushed just now is the topmost.
        transport.push_layer(tepal.RateLimit(write=1 << 30))
        assert await transport.pop_layer() == "closed"
        assert transport.layer_ids == (upper,)
        assert await transport.pop_layer() == "closed"
        assert transport.layers == transport.layer_ids == ()
        transport.write(b"plain")
        await pair.server.until_data(b"plain")
        await pair.close()

    run(main())


# S42
@pytest.mark.parametrize("late", ["close", "keep"])
def test_a_peer_that_does_not_answer_a_pop_costs_what_the_caller_said(run: Any, late: str) -> None:
    async def main() -> None:
        # This peer takes the close_notify for the end of input, and goes on.
        class Stubborn(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                return True

        pair = await Pair.make([client_tls()], [server_tls()], server=Stubborn)
        popped = pair.client.transport.pop_layer(timeout=0.05, late=late)
        if late == "keep":
            assert await popped == "timed_out"
            assert not pair.client.transport.is_closing()
            pair.client.transport.abort()
            await pair.client.lost
        else:
            with pytest.raises(tepal.ClosingTimeout):
                await popped
            assert isinstance(await pair.client.lost, tepal.ClosingTimeout)
            assert pair.client.transport.closed.kind is tepal.CloseKind.CLOSING_TIMED_OUT
        pair.server.transport.abort()
        await pair.server.lost
        await pair.listener.drain(0)

    run(main())


# S43
def test_a_hard_close_waits_for_nobody(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls(close="notify")], [server_tls()])
        pair.server.transport.pause_reading()
        pair.client.transport.close()
        assert await pair.client.lost is None
        pair.server.transport.resume_reading()
        await pair.server.lost
        await pair.listener.drain(0)

    run(main())


# S47
def test_an_end_of_writing_is_refused_or_taken_but_never_pretended(run: Any) -> None:
    async def main() -> None:
        class Half(Recorder):
            def eof_received(self) -> bool:
                super().eof_received()
                self.transport.write(b"still here")
                self.transport.write_eof()
                return True

        pair = await Pair.make([client_tls()], [server_tls()], server=Half)
        assert pair.client.transport.can_write_eof()
        pair.client.transport.write(b"all")
        pair.client.transport.write_eof()
        await pair.client.until_data(b"still here")
        await pair.server.until_data(b"all")
        assert await pair.client.lost is None
        pair.server.transport.close()
        assert await pair.server.lost is None
        await pair.listener.drain(0)

    run(main())


# STARTTLS injection: what came in plain text must not be taken for what TLS protects.
def test_bytes_behind_a_starttls_kill_the_connection(run: Any) -> None:
    async def main() -> None:
        spec = server_tls()

        class Server(Recorder):
            def data_received(self, data: bytes) -> int:
                self.data += data
                self.transport.push_layer(spec)
                return len(b"STARTTLS\r\n")

        pair = await Pair.make(server=Server)
        pair.client.transport.write(STARTTLS_EVIL)
        told = await pair.server.lost
        assert isinstance(told, tepal.ResidualRejected)
        assert pair.server.transport.closed.kind is tepal.CloseKind.RESIDUAL_REJECTED
        await pair.client.lost
        await pair.listener.drain(0)

    run(main())


def test_starttls_both_ways_with_the_answer_in_plain_text(run: Any) -> None:
    async def main() -> None:
        spec = server_tls()

        def serve(protocol: Recorder, data: bytes) -> int:
            protocol.data += data
            if data == b"STARTTLS\r\n":
                protocol.transport.write(b"GO\r\n")
                protocol.transport.push_layer(spec)
            else:
                protocol.transport.write(b"under TLS: " + data)
            return len(data)

        def ask(protocol: Recorder, data: bytes) -> int:
            protocol.data += data
            if data == b"GO\r\n":
                protocol.transport.push_layer(client_tls())
                protocol.transport.write(b"hello")
            return len(data)

        pair = await Pair.make(client=lambda: Recorder(ask), server=lambda: Recorder(serve))
        pair.client.transport.write(b"STARTTLS\r\n")
        await pair.client.until_data(b"GO\r\nunder TLS: hello")
        await pair.close()

    run(main())
