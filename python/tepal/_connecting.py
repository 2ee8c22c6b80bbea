"""The shortest way of `create_connection`: one address in digits, no TLS, no layers."""

from __future__ import annotations

import errno
import socket
import time
from asyncio import base_events
from asyncio.log import logger
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from ._reaching import Attempt
from ._stories import Story
from ._tls_endings import copy_of
from ._transports import StreamTransport

# Keyword arguments that change nothing as long as they are None, or 0.
_NONE = frozenset({"ssl", "sock", "local_addr", "happy_eyeballs_delay", "interleave"})
_ZERO = frozenset({"family", "proto", "flags"})

# Programs that replace it want to see each socket that is made.
_SOCKET = socket.socket if socket.socket.__module__ == "socket" else None


def address_in_digits(loop: Any, host: object, port: object, keywords: dict[str, Any]) -> tuple[int, Any] | None:
    """The version of IP and the address, if that is all a connection needs; None: by asyncio's way."""
    if type(host) is not str or type(port) is not int or not 0 <= port <= 65535:
        return None
    for name, value in keywords.items():
        if not (value is None if name in _NONE else name in _ZERO and isinstance(value, int) and value == 0):
            return None
    # Nor has somebody put his own in the place of a method on asyncio's way.
    own = loop.__dict__
    if type(loop) is not loop._own_class or (
        "_ensure_resolved" in own
        or "_connect_sock" in own
        or "_create_connection_transport" in own
        or "_make_socket_transport" in own
        or "sock_connect" in own
    ):
        return None
    # Tests replace the module where asyncio looks for it.
    if base_events.socket is not socket or socket.socket is not _SOCKET:  # type: ignore[attr-defined]
        return None
    version = StreamTransport._version_of(host)
    if version == 0:
        return None
    return version, (host, port) if version == 4 else (host, port, 0, 0)


async def connect(
    loop: Any, protocol_factory: Callable[[], Any], version: int, address: Any
) -> tuple[StreamTransport, Any]:
    """As asyncio's `create_connection`, with its exceptions, each with the whole story."""
    began = time.monotonic()
    transport = StreamTransport()
    try:
        number = transport._dial(loop, address[0], address[1])
        if number == errno.EINPROGRESS:
            await loop._when_ready(transport._sock_fd, True)
            number = transport._dialled(loop)
        if number != 0:
            raise OSError(number, f"Connect call failed {address}")
    except OSError as error:
        transport._hang_up(loop)
        story = Story(address[0], address[1], False)
        story.began = began
        story.attempts.append(Attempt(address, copy_of(error), time.monotonic() - began))
        error.problem = story.problem(error)  # type: ignore[attr-defined]
        raise
    except BaseException:
        transport._hang_up(loop)
        raise
    try:
        protocol = protocol_factory()
        waiter = loop.create_future()
        # Its own address is asked for when somebody wants it, and kept at the end. An IPv4 address in
        # digits is written in one way only, so the peer's is known; but all zeros stand for another.
        if version == 4 and address[0] != "0.0.0.0":
            transport._extra = {"peername": address}
        transport._open_dialled(loop, protocol, copy_context(), waiter)
    except BaseException:
        # An interrupt may come when it is open already.
        if transport._was_opened:
            transport.abort()
        else:
            transport._hang_up(loop)
        raise
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    if loop.get_debug():
        host, port = address[:2]
        sock = transport.get_extra_info("socket")
        logger.debug("%r connected to %s:%r: (%r, %r)", sock, host, port, transport, protocol)
    return transport, protocol
