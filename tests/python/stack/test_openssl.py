"""`tepal.OpenSSL`: an `ssl.SSLContext` as a layer, also facing `tepal.TLS`."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

import tepal
from tepal import _tepal

from .conftest import DATA, Pair, Recorder, client_tls, server_tls


@pytest.fixture(autouse=True, params=["direct", "buffers"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    _tepal._openssl_direct(request.param == "direct")
    yield
    _tepal._openssl_direct(True)


def client(name: str | None = "server.test", **arguments: Any) -> tepal.OpenSSL:
    return tepal.OpenSSL(ssl.create_default_context(cafile=DATA / "ca.pem"), name, **arguments)


def server(**arguments: Any) -> tepal.OpenSSL:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "server.pem", DATA / "server.key")
    return tepal.OpenSSL(context, **arguments)


def echo(protocol: Recorder, data: bytes) -> None:
    protocol.transport.write(data)


@pytest.mark.parametrize(("ours", "theirs"), [(client, server), (client, server_tls), (client_tls, server)])
def test_bytes_pass_and_the_close_is_answered(run: Any, ours: Any, theirs: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([ours()], [theirs()], server=lambda: Recorder(echo))
        message = bytes(range(256)) * 4000
        pair.client.transport.write(message)
        await pair.client.until_data(message)
        assert pair.client.transport.layers == ("tls",)
        info = pair.client.transport.layer_info("tls")
        assert (info.version, info.server_name) == ("TLSv1.3", "server.test")
        assert await pair.close() == (None, None)
        assert "eof" in pair.server.events

    run(main())


def test_tls_inside_of_tls(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client(), client_tls()], [server(), server_tls()], server=lambda: Recorder(echo))
        pair.client.transport.write(b"deep")
        await pair.client.until_data(b"deep")
        assert await pair.close() == (None, None)

    run(main())


def test_a_refused_certificate_is_the_exception_of_ssl(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client("other.test")], [server()], wait=False)
        error = await pair.client.lost
        assert isinstance(error, ssl.SSLCertVerificationError) or isinstance(
            error.__cause__, ssl.SSLCertVerificationError
        ), error
        assert isinstance(await pair.server.lost, (tepal.TLSAlert, ssl.SSLError))
        pair.listener.close()
        await pair.listener.drain(0)

    run(main())


def test_tls_is_closed_and_the_connection_goes_on(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client()], [server_tls(peer_close="pop")])
        pair.client.transport.write(b"secret ")
        popped = pair.client.transport.pop_layer()
        pair.client.transport.write(b"plain")
        assert await popped == "closed"
        await pair.server.until_data(b"secret plain")
        pair.server.transport.write(b"and back")
        await pair.client.until_data(b"and back")
        assert pair.client.transport.layers == pair.server.transport.layers == ()
        assert await pair.close() == (None, None)

    run(main())


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(TypeError, match="context must be an ssl.SSLContext, not str"):
        tepal.OpenSSL("context")
