"""Names from Python: no thread, no resolver for literals, addresses in order (S12 to S24)."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tepal

from .conftest import Recorder


class NameServer(asyncio.DatagramProtocol):
    """Says 127.0.0.9 to every question of type A, that there is no AAAA, and knows no .invalid."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        end = data.index(b"\0", 12) + 5
        question = data[12:end]
        self.asked.append(question.lower())
        code = 3 if b"\x07invalid\0" in question.lower() else 0
        answers = int(question[-3] == 1 and not code)
        reply = data[:2] + bytes([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]) + question
        if answers:
            reply += bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 9])
        self.transport.sendto(reply, address)


async def serve_names(loop: Any) -> tuple[NameServer, tepal.Resolver]:
    transport, server = await loop.create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", 0)
    )
    address = transport.get_extra_info("sockname")
    return server, tepal.Resolver(servers=[address], search=[], timeout=1, attempts=1)


class Refuses:
    """A resolver that must not be asked."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        raise AssertionError(f"asked for {host}")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


# S12, S17
def test_names_are_resolved_without_a_thread(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, resolver = await serve_names(loop)
        before = threads()
        for name in ("www.test", "localhost", "www.test", "nobody.invalid"):
            transport = loop.connect(Recorder, name, 9, resolver=resolver)
            client = transport.get_protocol()
            with pytest.raises((tepal.ConnectError, OSError)) as caught:
                await transport.established()
            await client.lost
            phase = "resolve" if "invalid" in name else "connect"
            assert caught.value.problem.phase == phase, name
        await loop.getaddrinfo("localhost", 80)
        assert threads() == before and threading.active_count() == 1
        assert server.asked
        server.transport.close()

    run(main())


# S13
def test_who_wants_threads_says_whose() -> None:
    with pytest.raises(TypeError, match="executor"):
        tepal.SystemResolver()  # type: ignore[call-arg]


# S13, S15
def test_the_system_resolver_runs_where_the_caller_says(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ran: list[str] = []

        class Pool(ThreadPoolExecutor):
            def submit(self, *arguments: Any, **keywords: Any) -> Any:
                ran.append("submitted")
                return super().submit(*arguments, **keywords)

        before = threads()
        with Pool(1) as pool:
            transport = loop.connect(Recorder, "localhost", 9, resolver=tepal.SystemResolver(pool))
            client = transport.get_protocol()
            with pytest.raises(OSError):
                await transport.established()
            await client.lost
            assert ran == ["submitted"] and threads() == before + 1
        # A literal needs no executor either.
        with Pool(1) as pool:
            ran.clear()
            transport = loop.connect(Recorder, "127.0.0.1", 9, resolver=tepal.SystemResolver(pool))
            client = transport.get_protocol()
            await client.lost
            assert ran == []

    run(main())


# S14
def test_names_and_addresses_can_be_awaited(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        infos = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert [info[4] for info in infos] == [("127.0.0.1", 80)]
        name, service = await loop.getnameinfo(
            ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        )
        assert (name, service) == ("127.0.0.1", "80")

    run(main())


# S16
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "::1", "0x7f.1", "::ffff:127.0.0.1"])
def test_literals_meet_no_resolver(run: Any, host: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transport = loop.connect(Recorder, host, 9, resolver=Refuses())
        client = transport.get_protocol()
        with pytest.raises(OSError) as caught:
            await transport.established()
        await client.lost
        assert caught.value.problem.phase == "connect"

    run(main())


# S19
def test_a_scope_of_a_literal_reaches_the_system_call(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        transport = loop.connect(Recorder, "fe80::1%lo", 9, resolver=Refuses())
        client = transport.get_protocol()
        with pytest.raises(OSError) as caught:
            await transport.established()
        await client.lost
        tried = [attempt.address for attempt in caught.value.problem.attempts]
        assert [address[3] for address in tried] == [socket.if_nametoindex("lo")]

    run(main())


@pytest.fixture
def hole() -> Iterator[int]:
    """A port of 127.0.0.2 that answers no SYN: its queue of none is full."""
    with socket.socket() as listener, socket.socket() as queued:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        queued.connect(listener.getsockname())
        yield listener.getsockname()[1]


class Both:
    """A resolver that knows a silent address and one that answers."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in self.addresses]


# S22, S23, S24
@pytest.mark.parametrize(
    ("addresses", "first", "least", "most"),
    [
        ("linear", "127.0.0.2", 0.4, 10),
        ("race", "127.0.0.2", 0.25, 10),
        ("race", "127.0.0.1", 0, 10),
    ],
)
def test_addresses_are_tried_in_turn_or_in_a_race(
    run: Any, hole: int, addresses: Any, first: str, least: float, most: float
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server = await loop.listen(Recorder, "127.0.0.1", hole)
        second = "127.0.0.1" if first == "127.0.0.2" else "127.0.0.2"
        begin = loop.time()
        transport = loop.connect(
            Recorder,
            "two.test",
            hole,
            resolver=Both(first, second),
            addresses=addresses,
            timeouts=tepal.Timeouts(connecting=0.8 if addresses == "linear" else 30),
        )
        client = transport.get_protocol()
        await transport.established()
        assert least <= loop.time() - begin < most
        assert transport.get_extra_info("peername")[0] == "127.0.0.1"
        transport.close()
        await client.lost
        await server.drain(1)

    run(main())


# S12: a name behind a proxy is the proxy's affair.
def test_a_name_behind_a_proxy_is_not_looked_up(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        wanted: list[bytes] = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(3) == b"\5\1\0"
            writer.write(b"\5\0")
            head = await reader.readexactly(5)
            wanted.append(await reader.readexactly(head[4]))
            await reader.readexactly(2)
            writer.write(b"\5\0\0\1\0\0\0\0\0\0")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for host in ("server.test", "hidden.onion"):
            transport = loop.connect(
                Recorder, "127.0.0.1", port, layers=[tepal.Socks5(host, 80)], resolver=Refuses()
            )
            client = transport.get_protocol()
            await transport.established()
            transport.close()
            await client.lost
        assert wanted == [b"server.test", b"hidden.onion"]
        # Without a proxy it is never asked for.
        names, resolver = await serve_names(loop)
        transport = loop.connect(Recorder, "hidden.onion", 80, resolver=resolver)
        client = transport.get_protocol()
        with pytest.raises(OSError) as caught:
            await transport.established()
        assert caught.value.problem.phase == "resolve"
        await client.lost
        assert names.asked == []
        names.transport.close()
        server.close()

    run(main())
