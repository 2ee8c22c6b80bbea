"""`ssl=` with recipes of ours on asyncio's entries, and what `ssl=` connections tell of themselves."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import tepal

from .conftest import DATA, client_tls, server_tls


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "server.pem", DATA / "server.key")
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(DATA / "ca.pem"))


# What a server and a client are given.
GIVEN: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "context": (server_context, client_context),
    "tls": (server_tls, lambda: client_tls(None)),
    "openssl": (lambda: tepal.OpenSSL(server_context()), lambda: tepal.OpenSSL(client_context())),
}


class Echo(asyncio.Protocol):
    """A plain protocol of asyncio's."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Client(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.data: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.made = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.made += 1

    def data_received(self, data: bytes) -> None:
        self.data.set_result(data)


def facts(transport: Any, server_side: bool) -> None:
    """What programs for asyncio ask to know whether, and how, a connection is secured."""
    info = transport.layer_info("tls")
    assert transport.get_extra_info("cipher") == (info.cipher, "TLSv1.3", 256 if "256" in info.cipher else 128)
    assert transport.get_extra_info("sslcontext")
    assert transport.get_extra_info("compression") is None
    found = transport.get_extra_info("ssl_object")
    assert (found.version(), found.cipher()) == ("TLSv1.3", transport.get_extra_info("cipher"))
    assert (found.server_side, found.session_reused) == (server_side, info.resumed)
    assert found.selected_alpn_protocol() is None and found.compression() is None
    certificate = transport.get_extra_info("peercert")
    assert certificate == found.getpeercert()
    if server_side:
        assert certificate is None and found.server_hostname is None
    else:
        assert ("DNS", "server.test") in certificate["subjectAltName"]
        assert found.getpeercert(True) == info.peer_certificates[0] and found.server_hostname == "server.test"


async def check(transport: Any, client: Any, served: Echo) -> None:
    """Bytes flow, both ends know of TLS, and both know how it ended."""
    assert client.transport is transport or client.made == 1
    transport.write(b"bytes")
    assert await client.data == b"bytes"
    info = transport.layer_info("tls")
    assert isinstance(info, tepal.TLSInfo) and info.version == "TLSv1.3"
    assert info.server_name == "server.test" and len(info.peer_certificates) >= 1
    facts(transport, False)
    facts(served.transport, True)
    assert transport.layers == ("tls",) and served.transport.layers == ("tls",)
    assert served.transport.layer_info("tls").cipher == info.cipher
    assert transport.layer_info("lines") is None and transport.problem is None
    transport.close()
    assert await client.lost is None and await served.lost is None
    assert transport.closed.clean and transport.problem is None
    assert served.transport.closed.kind == tepal.CloseKind.PEER_CLOSED_LAYER


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_servers_and_connections_take_it(run: Any, tmp_path: Any, given: str, family: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for_server, for_client = GIVEN[given]
        served: list[Echo] = []

        def factory() -> Echo:
            served.append(Echo())
            return served[-1]

        arguments: Any = {"ssl": for_client(), "server_hostname": "server.test"}
        if family == "unix":
            path = str(tmp_path / "socket")
            server = await loop.create_unix_server(factory, path, ssl=for_server())
            made = await loop.create_unix_connection(Client, path, **arguments)
        else:
            server = await loop.create_server(factory, "127.0.0.1", 0, ssl=for_server())
            made = await loop.create_connection(Client, *server.sockets[0].getsockname(), **arguments)
        # A server hears of it when its own handshake is done.
        while not served or served[0].transport is None:
            await asyncio.sleep(0)
        await check(*made, served[0])
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("how", ["accepted", "start_tls"])
def test_sockets_and_upgrades_take_it(run: Any, given: str, how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for_server, for_client = GIVEN[given]
        ours, theirs = socket.socketpair()
        plain: Any
        served: Any
        client: Any
        if how == "accepted":
            accepting = loop.connect_accepted_socket(Echo, theirs, ssl=for_server())
            connecting = loop.create_connection(Client, sock=ours, ssl=for_client(), server_hostname="server.test")
            (_, served), made = await asyncio.gather(accepting, connecting)
            await check(*made, served)
            return
        below, served = await loop.connect_accepted_socket(Echo, theirs)
        plain, client = await loop.create_connection(Client, sock=ours)
        served.transport, transport = await asyncio.gather(
            loop.start_tls(below, served, for_server(), server_side=True),
            loop.start_tls(plain, client, for_client(), server_hostname="server.test"),
        )
        # A layer needs no transport of its own.
        assert (transport is plain) == (given != "context") and plain.get_protocol() in (client, transport)
        await check(transport, client, served)

    run(main())


def test_streams_take_it(run: Any) -> None:
    async def main() -> None:
        async def serve(reader: Any, writer: Any) -> None:
            writer.write(await reader.readline())
            await writer.start_tls(server_tls())
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"plain\n")
        assert await reader.readline() == b"plain\n"
        await writer.start_tls(client_tls())
        writer.write(b"secret\n")
        assert await reader.read() == b"secret\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("how", ["connection", "start_tls"])
def test_a_handshake_that_fails_is_told_and_closes(run: Any, how: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        wrong = client_tls("other.test")
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_tls())
        address = server.sockets[0].getsockname()
        with pytest.raises(OSError) as told:
            if how == "connection":
                await loop.create_connection(Client, *address, ssl=wrong)
            else:
                plain, client = await loop.create_connection(Client, *address)
                await loop.start_tls(plain, client, wrong)
        assert "certificate" in str(told.value)
        if how == "connection":
            problem = told.value.problem  # type: ignore[attr-defined]
            assert problem.phase is tepal.Phase.HANDSHAKE and problem.layer == "tls"
        else:
            assert await client.lost is not None and plain.is_closing()
        del told
        server.close()
        await server.wait_closed()

    run(main())


def test_a_handshake_that_takes_too_long_ends_by_asyncios_argument(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with pytest.raises(OSError) as told:
            await loop.create_connection(
                Client, sock=ours, ssl=client_tls(), server_hostname="a", ssl_handshake_timeout=0.05
            )
        assert isinstance(told.value, tepal.HandshakeTimeout)
        theirs.close()

    run(main())


def test_what_is_no_tls_is_refused(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with ours.dup() as copy, pytest.raises(TypeError, match=r"ssl takes an ssl\.SSLContext, a tepal\.TLS"):
                await loop.create_connection(Client, sock=copy, ssl=tepal.Lines(), server_hostname="a")
            plain, client = await loop.create_connection(Client, sock=ours.dup())
            with pytest.raises(ValueError, match="server_side is True"):
                await loop.start_tls(plain, client, tepal.TLS("a", server_side=False), server_side=True)
            plain.abort()
            await client.lost

    run(main())
