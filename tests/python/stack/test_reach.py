"""Reaching a peer: what is told, and when."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

from .conftest import Recorder, echo, refused_port, serve


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
