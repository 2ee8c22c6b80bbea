"""Random calls of both ends of a TLS connection with `ssl.SSLContext`, from its beginning or by `start_tls`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

from tls.peers import VERSIONS, client_context, server_context

from .kit import Kit, told
from .transports import End, act

ACTS = [
    "write", "write", "write", "writelines", "write_eof", "can_write_eof", "close", "abort", "pause_reading", "resume_reading",
    "limits", "extra", "is_reading", "is_closing", "set_protocol", "empty", "session",
]  # fmt: skip


def contexts(kit: Kit) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both sides', of one version or another, with protocols to agree on."""
    client, server = client_context(kit.choose(None, *VERSIONS)), server_context(kit.choose(None, None, *VERSIONS))
    if kit.chance(0.3):
        client.set_alpn_protocols(kit.choose(["one"], ["two", "one"], ["three"]))
        server.set_alpn_protocols(["one", "two"])
    if kit.chance(0.2):
        server.verify_mode, server.check_hostname = kit.choose(ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED), False
    if kit.chance(0.1):
        server.sni_callback = lambda *_: kit.choose(None, ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
    return client, server


def session(transport: Any) -> Any:
    """What a program asks of the TLS object."""
    found = transport.get_extra_info("ssl_object")
    if found is None:
        return None
    return (
        found.version(), found.cipher(), found.selected_alpn_protocol(), found.server_side, found.server_hostname,
        found.session_reused, found.compression(), len(found.getpeercert(True) or b""), type(found).__name__,
    )  # fmt: skip


def extra(kit: Kit, transport: Any) -> Any:
    key = kit.choose("peercert", "cipher", "compression", "sslcontext", "ssl_object", "socket", "peername", "sockname", "nothing")
    found = transport.get_extra_info(key, 5)
    return found if key in ("peercert", "cipher", "compression") else type(found).__name__


class SecuredEnd(End):
    """The peer of one that failed hears why; with asyncio only that it is gone."""

    def connection_lost(self, error: BaseException | None) -> None:
        super().connection_lost(ConnectionError() if isinstance(error, ssl.SSLError) else error)


async def connect(kit: Kit, ends: list[End]) -> None:
    """The two ends of a pair of sockets, client and server; what became of each is noted."""
    loop = asyncio.get_running_loop()
    client, server = contexts(kit)
    host = kit.choose("server.test", "server.test", "server.test", "other.test")
    ours, theirs = socket.socketpair()
    made: Any
    if kit.chance(0.5):
        made = (
            loop.create_connection(lambda: ends[0], sock=ours, ssl=client, server_hostname=host),
            loop.connect_accepted_socket(lambda: ends[1], theirs, ssl=server),
        )
    else:
        plain = [await loop.create_connection(lambda end=end: end, sock=sock) for end, sock in zip(ends, (ours, theirs), strict=True)]  # type: ignore[misc]
        made = (
            loop.start_tls(plain[0][0], ends[0], client, server_hostname=host),
            loop.start_tls(plain[1][0], ends[1], server, server_side=True),
        )
    for end, result in zip(ends, await asyncio.gather(*made, return_exceptions=True), strict=True):
        if isinstance(result, BaseException):
            # asyncio does not tell the peer why it failed.
            failure = told(result) if isinstance(result, ssl.SSLCertVerificationError) else "failed"
            kit.note(end.name + " does", "connect", failure)
        else:
            end.transport = result[0] if isinstance(result, tuple) else result


async def secured(kit: Kit) -> None:
    """Two ends in this process."""
    ends: list[End] = [SecuredEnd(kit, name) for name in "ab"]
    await connect(kit, ends)
    await kit.settle()
    for _ in range(2 + kit.size(10)):
        end, what = kit.choose(*ends), kit.choose(*ACTS)
        if end.transport is None:
            continue
        if what == "close":
            # While bytes come that nobody reads asyncio's end fails, and what was written is lost.
            for each in ends:
                if each.transport is not None:
                    each.transport.resume_reading()
            await kit.settle()
        result: Any
        try:
            if what == "session":
                result = session(end.transport)
            elif what == "extra":
                result = extra(kit, end.transport)
            elif what == "limits":
                # At no bytes at all asyncio pauses and resumes with each record that it reads.
                end.transport.set_write_buffer_limits(kit.choose(None, 1, 1000, 65536, -1), kit.choose(None, 1, 500, 70000, -1))
                result = end.transport.get_write_buffer_limits()
            else:
                result = act(kit, what, end)
        except Exception as error:
            result = told(error)
        kit.note(end.name + " does", what, result)
        await kit.settle(kit.choose(2, 6))
    for end in ends:
        if end.transport is not None:
            end.transport.resume_reading()
    await kit.settle()
    for end in ends:
        if end.transport is not None:
            end.transport.close()
    await kit.settle(10)
    for end in ends:
        if end.transport is not None:
            end.transport.abort()
    await kit.settle(10)
