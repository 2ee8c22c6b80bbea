"""Reaching a peer from Python: phases, hooks, problems, reconnects (S55 to S70)."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, client_tls, server_tls


def echo(protocol: Recorder, data: bytes) -> None:
    protocol.transport.write(data)


def refused_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def serve(factory: Any, **arguments: Any) -> tuple[tepal.Server, int]:
    loop: Any = asyncio.get_running_loop()
    server = await loop.listen(factory, "127.0.0.1", 0, **arguments)
    return server, server.sockets[0].getsockname()[1]


# S55, S57, S58, S67
def test_the_protocol_is_attached_before_anything_is_asked(run: Any) -> None:
    async def main() -> None:
        server, port = await serve(lambda: Recorder(echo))
        phases: list[str] = []

        class Client(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                phases.append(transport.phase)

            def connection_established(self, transport: Any) -> None:
                assert transport is self.transport
                super().connection_established(transport)
                phases.append(transport.phase)

        loop: Any = asyncio.get_running_loop()
        transport = loop.connect(Client, "localhost", port)
        client = transport.get_protocol()
        assert isinstance(client, Client) and client.events == []
        assert transport.phase is tepal.Phase.RESOLVE
        await transport.established()
        assert phases == ["resolve", "established"]
        assert transport.get_extra_info("peername")[1] == port
        assert transport.get_extra_info("socket").family in (socket.AF_INET, socket.AF_INET6)
        transport.close()
        assert await client.lost is None
        await server.drain(1)

    run(main())


# S64, S65, S70
def test_a_refused_connection_names_all_that_is_needed_to_try_again(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        port = refused_port()
        told: list[BaseException] = []

        class Client(Recorder):
            def error_connecting(self, exc: BaseException) -> None:
                told.append(exc)

        transport = loop.connect(Client, "127.0.0.1", port)
        client = transport.get_protocol()
        with pytest.raises(tepal.ConnectError) as caught:
            await transport.established()
        problem = caught.value.problem
        assert str(problem) == str(transport.problem) == str(transport.closed.problem)
        assert (problem.phase, problem.kind, problem.host, problem.port) == (
            tepal.Phase.CONNECT, "refused", "127.0.0.1", port,
        )  # fmt: skip
        assert [attempt.address for attempt in problem.attempts] == [("127.0.0.1", port)]
        assert isinstance(problem.attempts[0].error, ConnectionRefusedError)
        assert problem.attempt == 1 and problem.elapsed >= 0
        assert str(port) in str(problem) and str(port) in str(caught.value)
        assert caught.value.errno == 111
        # One object for the hook and for the end.
        assert told == [await client.lost]
        assert client.events == ["made", "lost"]

    run(main())


# S65
def test_a_failure_that_nobody_awaits_is_told_to_the_protocol_only(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transport = loop.connect(Recorder, "127.0.0.1", refused_port())
        assert isinstance(await transport.get_protocol().lost, tepal.ConnectError)

    run(main())


# S70
def test_a_name_that_does_not_exist_is_told_by_error_dns(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        told: list[BaseException] = []

        class Client(Recorder):
            def error_dns(self, exc: BaseException) -> None:
                told.append(exc)

        resolver = tepal.Resolver(servers=[("127.0.0.1", refused_port())], timeout=0.1, attempts=1)
        transport = loop.connect(Client, "nowhere.invalid", 80, resolver=resolver)
        with pytest.raises(tepal.ConnectError) as caught:
            await transport.established()
        assert caught.value.problem is not None
        assert caught.value.problem.phase is tepal.Phase.RESOLVE
        assert isinstance(caught.value.problem.cause, socket.gaierror)
        assert len(told) == 1

    run(main())


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


# S68: a listener whose queue is full answers no SYN.
def test_a_peer_that_does_not_answer_is_told_by_timeout_connecting(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        told: list[str] = []

        class Client(Recorder):
            def timeout_connecting(self) -> None:
                told.append("timeout")

        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = []
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
                fillers.append(filler)
            transport = loop.connect(
                Client, *full.getsockname(), timeouts=tepal.Timeouts(connecting=0.1)
            )
            with pytest.raises(tepal.ConnectError) as caught:
                await transport.established()
            for filler in fillers:
                filler.close()
        assert told == ["timeout"]
        assert caught.value.problem is not None and caught.value.problem.kind == "timed_out"

    run(main())


def test_a_handshake_that_takes_too_long_is_told_by_timeout_handshake(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        told: list[str] = []

        class Client(Recorder):
            def timeout_handshake(self) -> None:
                told.append(self.transport.phase)

        transport = loop.connect(
            Client,
            "127.0.0.1",
            port,
            layers=[client_tls()],
            timeouts=tepal.Timeouts(handshake=0.05, closing=0.05),
        )
        client = transport.get_protocol()
        with pytest.raises(tepal.ConnectError):
            await transport.established()
        assert isinstance(await client.lost, tepal.HandshakeTimeout)
        assert len(told) == 1
        await server.drain(0)

    run(main())


# S69
def test_quiet_is_told_and_the_connection_stays_up(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(lambda: Recorder(echo))

        class Client(Recorder):
            def timeout_idle(self) -> None:
                self.transport.write(b"are you there?")

        transport = loop.connect(Client, "127.0.0.1", port, timeouts=tepal.Timeouts(idle=0.02))
        await transport.established()
        await transport.get_protocol().until_data(b"are you there?")
        transport.close()
        await transport.get_protocol().lost
        await server.drain(1)

    run(main())


@pytest.mark.parametrize("name", ["read", "session"])
def test_a_silent_or_an_old_connection_is_lost_by_its_time(run: Any, name: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        timeouts = tepal.Timeouts(**{name: 0.02})
        transport = loop.connect(Recorder, "127.0.0.1", port, timeouts=timeouts)
        told = await transport.get_protocol().lost
        assert isinstance(told, tepal.QuietTimeout) and isinstance(told, TimeoutError)
        assert transport.closed.kind == f"{name}_timed_out"
        await server.drain(0)

    run(main())


@pytest.mark.parametrize("name", ["read", "write", "session"])
def test_a_server_gives_up_an_accepted_connection_by_its_time(run: Any, name: str) -> None:
    async def main() -> None:
        accepted: list[Recorder] = []

        class Served(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.append(self)
                if name == "write":
                    # More than the kernel takes for a peer that does not read.
                    transport.write(bytes(32 << 20))

        server, port = await serve(Served, timeouts=tepal.Timeouts(**{name: 0.02}))
        with socket.create_connection(("127.0.0.1", port)):
            while not accepted:
                await asyncio.sleep(0)
            told = await accepted[0].lost
        assert isinstance(told, tepal.QuietTimeout)
        assert accepted[0].transport.closed.kind == f"{name}_timed_out"
        await server.drain(0)

    run(main())


def test_a_server_tells_the_quiet_of_an_accepted_connection_and_keeps_it(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        class Served(Recorder):
            def timeout_idle(self) -> None:
                self.transport.write(b"are you there?")

        server, port = await serve(Served, timeouts=tepal.Timeouts(idle=0.02))
        transport = loop.connect(Recorder, "127.0.0.1", port)
        await transport.established()
        client = transport.get_protocol()
        await client.until(lambda: b"there?" in client.data)
        assert transport.closed is None
        transport.close()
        await client.lost
        await server.drain(1)

    run(main())


@pytest.mark.parametrize("addresses", [None, "linear", "race"])
def test_what_create_connection_raises_has_the_story(run: Any, addresses: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        port = refused_port()
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(Recorder, "127.0.0.1", port, addresses=addresses)
        problem = caught.value.problem
        assert (problem.phase, problem.kind) == ("connect", "refused")
        assert (problem.host, problem.port) == ("127.0.0.1", port)
        assert [attempt.address for attempt in problem.attempts] == [("127.0.0.1", port)]
        assert isinstance(problem.attempts[0].error, ConnectionRefusedError)
        assert isinstance(problem.cause, ConnectionRefusedError)

    run(main())


def test_a_name_that_is_none_is_told_by_create_connection(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def getaddrinfo(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        loop.getaddrinfo = getaddrinfo
        with pytest.raises(socket.gaierror) as caught:
            await loop.create_connection(Recorder, "nobody.test", 80)
        problem = caught.value.problem
        assert (problem.phase, problem.kind, problem.host) == ("resolve", "name_not_found", "nobody.test")

    run(main())


def test_a_handshake_that_fails_is_told_by_create_connection(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(OSError) as caught:
            await loop.create_connection(Recorder, "127.0.0.1", port, ssl=True)
        problem = caught.value.problem
        assert (problem.phase, problem.kind, problem.layer) == ("handshake", "layer", "tls")
        assert problem.address == ("127.0.0.1", port)
        server.close()

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


def test_unix_paths_and_connected_sockets_are_peers_too(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        path = tmp_path / "socket"
        server = await loop.listen(lambda: Recorder(echo), path=path, layers=[tepal.Netstrings()])
        transport = loop.connect(Recorder, path=path, layers=[tepal.Netstrings()])
        await transport.established()
        transport.write(b"by a path")
        await transport.get_protocol().until_data(b"by a path")
        transport.close()
        await transport.get_protocol().lost
        await server.drain(1)

        ours, theirs = socket.socketpair()
        one = loop.connect(Recorder, sock=ours, layers=[tepal.Lines()])
        other = loop.connect(lambda: Recorder(echo), sock=theirs)
        await asyncio.gather(one.established(), other.established())
        one.write(b"by a pair")
        await one.get_protocol().until_data(b"by a pair")
        one.close()
        await asyncio.gather(one.get_protocol().lost, other.get_protocol().lost)

    run(main())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"host": "h"}, ValueError),
        ({"port": 3}, ValueError),
        ({"host": 3, "port": 3}, TypeError),
        ({"host": "h", "port": "3"}, TypeError),
        ({"host": "h", "port": 70000}, ValueError),
        ({"host": "h", "port": 3, "path": "/x"}, ValueError),
        ({"host": "h", "port": 3, "addresses": "fast"}, ValueError),
        ({"host": "h", "port": 3, "timeouts": 3}, TypeError),
        ({"host": "h", "port": 3, "backoff": 3}, TypeError),
        ({"host": "h", "port": 3, "local": "127.0.0.1"}, TypeError),
        ({"host": "h", "port": 3, "local": ("nowhere", 0)}, ValueError),
        ({"host": "h", "port": 3, "resolver": 3}, TypeError),
        ({"host": "h", "port": 3, "layers": tepal.Lines()}, TypeError),
    ],
)
def test_wrong_arguments_are_raised_by_the_call_itself(
    run: Any, arguments: dict[str, Any], error: type[Exception]
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        made: list[Any] = []
        with pytest.raises(error):
            loop.connect(lambda: made.append(1), **arguments)
        assert made == []
        with pytest.raises(TypeError):
            loop.connect(None, "127.0.0.1", 9)
        with pytest.raises(ZeroDivisionError):
            loop.connect(lambda: 1 / 0, "127.0.0.1", 9)

    run(main())


def test_a_connection_leaves_from_the_address_it_was_bound_to(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        transport = loop.connect(Recorder, "127.0.0.1", port, local=("127.0.0.2", 0))
        await transport.established()
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        transport.close()
        await transport.get_protocol().lost
        await server.drain(1)

    run(main())


def test_a_resolver_of_the_users_is_asked(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)

        class Known:
            asked: list[str] = []

            async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
                self.asked.append(host)
                if host == "fails.test":
                    raise socket.gaierror(socket.EAI_NONAME, "no such name")
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        resolver = Known()
        transport = loop.connect(Recorder, "known.test", port, resolver=resolver)
        await transport.established()
        transport.close()
        await transport.get_protocol().lost
        failing = loop.connect(Recorder, "fails.test", port, resolver=resolver)
        with pytest.raises(tepal.ConnectError) as caught:
            await failing.established()
        assert caught.value.problem is not None
        assert caught.value.problem.kind == "name_not_found"
        assert resolver.asked == ["known.test", "fails.test"]
        await server.drain(1)

    run(main())


def test_an_exception_in_a_hook_costs_that_connection_and_is_reported(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        class Client(Recorder):
            def error_connecting(self, exc: BaseException) -> None:
                raise ZeroDivisionError

        transport = loop.connect(Client, "127.0.0.1", refused_port())
        client = transport.get_protocol()
        with pytest.raises(tepal.ConnectError):
            await transport.established()
        await client.lost

    (problem,) = run(main(), expected_problems=1)
    assert isinstance(problem["exception"], ZeroDivisionError)
    assert problem["transport"] is not None


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
