"""Upgrading connections: start_tls, also inside of TLS."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
from typing import Any

import pytest
from peers import Peer, Recorder, client_context, connected, server_context, sockets, turns


def test_a_connection_is_upgraded_and_keeps_its_protocol(run: Any, loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        plain, protocol = await loop.create_connection(Recorder, sock=ours)
        await loop.sock_sendall(theirs, b"plain")
        while protocol.data != b"plain":
            await asyncio.sleep(0)
        peer = Peer(theirs, server_context(), server_side=True)
        upgrading = loop.start_tls(plain, protocol, client_context(), server_hostname="server.test")
        transport, _ = await asyncio.gather(upgrading, peer.handshake())
        assert transport is not plain and transport.get_protocol() is protocol
        await peer.write(b" and not")
        while protocol.data != b"plain and not":
            await asyncio.sleep(0)
        transport.close()
        await peer.finish()
        await protocol.lost
        assert protocol.story() == ["connection_made", "eof_received", "connection_lost"]

    run(main())


def test_what_a_server_has_read_already_belongs_to_the_handshake(run: Any, own_loop: Any) -> None:
    """The ClientHello comes in one segment with what is before it."""

    async def main() -> None:
        ours, theirs = sockets()
        reader, writer = await asyncio.open_connection(sock=ours)
        peer = Peer(theirs, client_context(), server_hostname="server.test")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        await own_loop.sock_sendall(theirs, b"PROXY\r\n" + peer.outgoing.read())
        assert await reader.readline() == b"PROXY\r\n"
        while not reader._buffer:
            await asyncio.sleep(0)
        upgrading = own_loop.start_tls(writer.transport, writer.transport.get_protocol(), server_context(), server_side=True)
        transport, _ = await asyncio.gather(upgrading, peer.handshake())
        await peer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        transport.abort()
        peer.close()
        await turns()

    run(main())


def test_streams_are_upgraded(run: Any, loop: Any) -> None:
    async def main() -> None:
        async def serve(reader: Any, writer: Any) -> None:
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go on\n")
            await writer.start_tls(server_context())
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        await writer.start_tls(client_context(), server_hostname="server.test")
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n" and await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await turns(10)

    run(main())


def test_tls_inside_of_tls(run: Any, loop: Any) -> None:
    async def main() -> None:
        outer, protocol, peer = await connected()
        inner = Peer(peer.sock, server_context(), server_side=True)


        upgrading = asyncio.ensure_future(
            loop.start_tls(outer, protocol, client_context(), server_hostname="server.test")
        )

        async def pump(function: Any, *args: Any) -> Any:
            while True:
                try:
                    return function(*args)
                except ssl.SSLWantReadError:
                    if data := inner.outgoing.read():
                        await peer.write(data)
                    inner.incoming.write(await peer.call(peer.tls.read, 1 << 16))
                finally:
                    if data := inner.outgoing.read():
                        await peer.write(data)

        await pump(inner.tls.do_handshake)
        transport = await upgrading
        transport.write(b"deep")
        assert await pump(inner.tls.read, 4) == b"deep"
        await pump(inner.tls.write, b"down")
        while protocol.data != b"down":
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        peer.close()
        await turns()

    run(main())


@pytest.mark.parametrize(
    ("context", "transport", "message"),
    [(None, None, "sslcontext is expected"), (True, None, "is not supported by start_tls")],
)
def test_wrong_arguments(run: Any, loop: Any, context: Any, transport: Any, message: str) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=message):
            await loop.start_tls(transport, None, client_context() if context else None)

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("told", [False, True])
def test_no_transport_comes_of_a_connection_that_was_closed_before(run: Any, own_loop: Any, how: str, told: bool) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        plain, protocol = await own_loop.create_connection(Recorder, sock=ours)
        getattr(plain, how)()
        if told:
            await protocol.lost
        upgraded = await own_loop.start_tls(plain, protocol, client_context(), server_hostname="server.test")
        assert upgraded is None
        await protocol.lost
        assert protocol.story() == ["connection_made", "connection_lost"]
        theirs.close()

    run(main())


def test_a_protocol_hears_of_a_loss_inside_the_upgrade(run: Any, own_loop: Any) -> None:
    async def main() -> None:
        ours, theirs = sockets()
        plain, protocol = await own_loop.create_connection(Recorder, sock=ours)
        upgrading = asyncio.ensure_future(
            own_loop.start_tls(plain, protocol, client_context(), server_hostname="server.test")
        )
        await own_loop.sock_recv(theirs, 1 << 16)
        plain.abort()
        with pytest.raises(ConnectionAbortedError):
            await upgrading
        await protocol.lost
        assert protocol.story() == ["connection_made", "connection_lost"]
        theirs.close()

    run(main())


def test_a_descriptor_in_use_is_told_before_anything_is_begun(own_loop: Any) -> None:
    loop = own_loop

    async def main() -> None:
        ours, theirs = sockets()
        plain, protocol = await loop.create_connection(Recorder, sock=ours)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(Recorder, sock=ours, ssl=client_context(), server_hostname="server.test")
            gc.collect()
        assert not [each for each in told if "transport" in str(each.message)]
        plain.close()
        await protocol.lost
        theirs.close()

    loop.run_until_complete(asyncio.wait_for(main(), 10))
