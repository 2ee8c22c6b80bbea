"""`reconnect`, plans of attempts, and what each attempt begins with."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, client_tls, echo, refused_port, serve, server_tls


class SilentServer(asyncio.DatagramProtocol):
    """A name server that never answers."""


# S66, S68
def test_a_name_server_that_is_silent_is_told_and_reconnect_is_legal_there(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        endpoint, _ = await loop.create_datagram_endpoint(SilentServer, local_addr=("127.0.0.1", 0))
        name_server = endpoint.get_extra_info("sockname")
        count = 0

        class Client(Recorder):
            def timeout_dns(self) -> None:
                nonlocal count
                count += 1
                if count < 3:
                    self.transport.reconnect()

        transport = loop.connect(
            Client,
            "slow.example",
            80,
            resolver=tepal.Resolver(servers=[name_server], timeout=5),
            timeouts=tepal.Timeouts(dns=0.02),
        )
        with pytest.raises(tepal.ConnectError) as caught:
            await transport.established()
        assert count == 3 and caught.value.problem is not None
        assert caught.value.problem.kind == "timed_out" and caught.value.problem.attempt == 3
        endpoint.close()

    run(main())


# S59, S60, S61, S63
def test_reconnect_keeps_the_protocol_through_failures_that_never_had_a_connection(
    run: Any,
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(lambda: Recorder(echo))
        server.close()
        await server.drain(0)

        class Client(Recorder):
            attempts = 0

            def error_connecting(self, exc: BaseException) -> None:
                self.attempts += 1
                if self.attempts == 2:
                    # Now there is somebody.
                    self.again = asyncio.ensure_future(serve_again())
                self.transport.reconnect(0.01)

        async def serve_again() -> tepal.Server:
            server: tepal.Server = await loop.listen(lambda: Recorder(echo), "127.0.0.1", port)
            return server

        transport = loop.connect(Client, "127.0.0.1", port)
        client = transport.get_protocol()
        transport.write(b"written before there was anybody")
        await transport.established()
        await client.until_data(b"written before there was anybody")
        assert transport.get_protocol() is client and client.attempts >= 2
        assert client.events.count("made") == 1 and "lost" not in client.events
        transport.close()
        assert await client.lost is None
        await (await client.again).drain(1)

    run(main())


# S41, S61, S62
def test_reconnect_after_a_loss_resumes_tls_and_tells_each_establishment(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ports: list[Any] = []

        def serve_one(protocol: Recorder, data: bytes) -> None:
            protocol.transport.write(data)
            if data == b"go away":
                protocol.transport.close()

        class Client(Recorder):
            def connection_lost(self, exc: BaseException | None) -> None:
                self.note("lost")
                if self.events.count("lost") < 3:
                    self.transport.reconnect()
                else:
                    self.lost.set_result(exc)

            def connection_established(self, transport: Any) -> None:
                super().connection_established(transport)
                self.note(("resumed", transport.layer_info("tls").resumed))
                ports.append(transport.get_extra_info("sockname"))
                assert transport.closed is None

        server, port = await serve(lambda: Recorder(serve_one), layers=[server_tls()])
        transport = loop.connect(Client, "127.0.0.1", port, layers=[client_tls()])
        client = transport.get_protocol()
        for number in range(1, 4):
            await client.until(lambda number=number: client.events.count("established") == number)
            client.data.clear()
            transport.write(b"go away")
            await client.until(lambda number=number: client.events.count("lost") == number)
            assert client.data == b"go away"
        assert await client.lost is None
        assert [e for e in client.events if isinstance(e, tuple)] == [
            ("resumed", False), ("resumed", True), ("resumed", True),
        ]  # fmt: skip
        assert client.events.count("made") == 1
        assert len(set(ports)) == 3
        assert transport.phase is tepal.Phase.CLOSED and transport.is_closing()
        with pytest.raises(RuntimeError, match="reconnect"):
            transport.reconnect()
        await server.drain(1)

    run(main())


def test_a_backoff_does_it_without_code_and_ends_after_its_attempts(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        backoff = tepal.Backoff(first=0.005, jitter=0, attempts=3)
        transport = loop.connect(Recorder, "127.0.0.1", refused_port(), backoff=backoff)
        client = transport.get_protocol()
        with pytest.raises(tepal.ConnectError) as caught:
            await transport.established()
        assert caught.value.problem is not None and caught.value.problem.attempt == 4
        assert client.events == ["made", "lost"]

    run(main())


def test_a_close_ends_the_attempts_of_a_backoff(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        backoff = tepal.Backoff(first=0.001)
        transport = loop.connect(Recorder, "127.0.0.1", refused_port(), backoff=backoff)
        client = transport.get_protocol()
        while transport.problem is None or transport.problem.attempt < 3:
            await asyncio.sleep(0.001)
        transport.close()
        await client.lost
        assert client.events == ["made", "lost"]

    run(main())


@pytest.mark.parametrize("who", ["accepted", "create_connection"])
def test_only_what_connect_made_reconnects(run: Any, who: str) -> None:
    async def main() -> None:
        pair = await Pair.make()
        if who == "accepted":
            with pytest.raises(RuntimeError):
                pair.server.transport.reconnect()
        else:
            loop: Any = asyncio.get_running_loop()
            port = pair.listener.sockets[0].getsockname()[1]
            pair.listener._listener_options  # of listen
            server, port = await serve(Recorder)
            transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
            with pytest.raises(RuntimeError):
                transport.reconnect()
            with pytest.raises(ValueError):
                transport.reconnect(-1)
            transport.close()
            await protocol.lost
            await server.drain(1)
        await pair.close()

    run(main())


class Everywhere:
    """A resolver that knows two addresses of every name."""

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> Any:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]


# S21, S23
@pytest.mark.parametrize("handshakes", ["next", "race", "once"])
@pytest.mark.parametrize("addresses", ["linear", "race"])
def test_a_failed_handshake_tries_the_next_address(
    run: Any, addresses: Any, handshakes: Any
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(lambda: Recorder(echo), layers=[server_tls()])

        class Rude(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.close()

        rude = await loop.create_server(Rude, "127.0.0.2", port)
        transport = loop.connect(
            Recorder,
            "two.test",
            port,
            layers=[client_tls()],
            resolver=Everywhere(),
            addresses=addresses,
            handshakes=handshakes,
        )
        client = transport.get_protocol()
        if handshakes == "once":
            with pytest.raises(tepal.ConnectError) as caught:
                await transport.established()
            assert caught.value.problem.layer == "tls"
            assert caught.value.problem.attempts[0].layer == "tls"
            assert caught.value.problem.attempts[1].elapsed is None
        else:
            await transport.established()
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            assert client.events.count("established") == 1
            transport.write(b"x")
            await client.until(lambda: client.data == b"x")
            transport.close()
            await client.lost
        rude.close()
        await server.drain(1)

    run(main())


def test_a_peer_that_hangs_up_does_not_begin_the_plan_anew(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        class Short(Recorder):
            def connection_made(self, transport: Any) -> None:
                transport.close()

        server, port = await serve(Short)
        backoff = tepal.Backoff(first=0.001, jitter=0, attempts=3)
        transport = loop.connect(Recorder, "127.0.0.1", port, backoff=backoff)
        client = transport.get_protocol()
        while transport.phase is not tepal.Phase.CLOSED:
            await asyncio.sleep(0.001)
        assert client.events.count("established") == 4
        await server.drain(1)

    run(main())


# S62
@pytest.mark.parametrize("layered", [False, True])
@pytest.mark.parametrize("unsent", ["drop", "keep"])
def test_unsent_bytes_are_dropped_or_kept(run: Any, unsent: Any, layered: bool) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        accepted: list[Recorder] = []

        class Late(Recorder):
            """Reads nothing on the first connection."""

            def connection_established(self, transport: Any) -> None:
                accepted.append(self)
                if len(accepted) == 1:
                    transport.pause_reading()

        class Client(Recorder):
            def connection_established(self, transport: Any) -> None:
                super().connection_established(transport)
                transport.write(sent if self.events.count("established") == 1 else b"!")

        sent = b"".join(number.to_bytes(4, "big") for number in range(1 << 21))
        layers = [server_tls()] if layered else []
        server, port = await serve(Late, layers=layers)
        layers = [client_tls()] if layered else []
        transport = loop.connect(Client, "127.0.0.1", port, layers=layers)
        client = transport.get_protocol()
        await client.until_event("pause")
        before = -1
        while transport.get_write_buffer_size() != before:
            before = transport.get_write_buffer_size()
            await asyncio.sleep(0.02)
        transport.reconnect(unsent=unsent)
        while len(accepted) < 2 or not accepted[1].data.endswith(b"!"):
            await asyncio.sleep(0.001)
        got = bytes(accepted[1].data[:-1])
        if unsent == "drop":
            assert got == b""
        else:
            # The end of it, once and in order; TLS holds no more than it can encrypt at once.
            assert got == sent[len(sent) - len(got) :]
            assert 0 <= before - len(got) <= (1 << 18 if layered else 0)
        transport.close()
        await client.until(lambda: client.events.count("lost") == 2)
        await server.drain(1)

    run(main())
