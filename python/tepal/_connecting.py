"""The shortest way of `create_connection`: one address in digits, no TLS, no layers."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from asyncio import base_events, trsock
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

# Methods on asyncio's way, which somebody may have put his own in the place of.
_SEAMS = (
    "_ensure_resolved",
    "_connect_sock",
    "_create_connection_transport",
    "_make_socket_transport",
    "sock_connect",
)

# What a connect that takes time says; an interrupted one goes on by itself.
_GOES_ON = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)

# Connections within a host: Linux makes them inside connect(2), and a second call tells how it went.
_FINISHES_AT_ONCE = sys.platform == "linux"

_STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


def address_in_digits(loop: Any, host: object, port: object, keywords: dict[str, Any]) -> tuple[int, Any] | None:
    """The family and the address, if that is all a connection needs; None: by asyncio's way."""
    if type(host) is not str or type(port) is not int or "%" in host:
        return None
    for name, value in keywords.items():
        if not (value is None if name in _NONE else name in _ZERO and isinstance(value, int) and value == 0):
            return None
    if type(loop) is not loop._own_class or not loop.__dict__.keys().isdisjoint(_SEAMS):
        return None
    # Tests replace the module where asyncio looks for it.
    if base_events.socket is not socket:  # type: ignore[attr-defined]
        return None
    try:
        socket.inet_pton(socket.AF_INET, host)
        return socket.AF_INET, (host, port)
    except (OSError, ValueError):
        pass
    try:
        socket.inet_pton(socket.AF_INET6, host)
        return socket.AF_INET6, (host, port, 0, 0)
    except (OSError, ValueError):
        return None


async def connect(loop: Any, protocol_factory: Callable[[], Any], family: int, address: Any) -> tuple[StreamTransport, Any]:
    """As asyncio's `create_connection`, with its exceptions, each with the whole story."""
    began = time.monotonic()
    sock = None
    try:
        sock = socket.socket(family, _STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        number = sock.connect_ex(address)
        if number != 0 and number not in _GOES_ON:
            raise OSError(number, os.strerror(number))
        if number != 0 and _FINISHES_AT_ONCE and address[0].startswith(("127.", "::1")):
            # The connection is made by now, or refused, and the loop would only hear in the next turn.
            number = sock.connect_ex(address)
        if number in _GOES_ON:
            await loop._when_ready(sock.fileno(), True)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number not in (0, errno.EISCONN):
            raise OSError(number, f"Connect call failed {address}")
    except OSError as error:
        if sock is not None:
            sock.close()
        story = Story(address[0], address[1], False)
        story.began = began
        story.attempts.append(Attempt(address, copy_of(error), time.monotonic() - began))
        error.problem = story.problem(error)  # type: ignore[attr-defined]
        raise
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    try:
        protocol = protocol_factory()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiter = loop.create_future()
        transport = StreamTransport()
        # Its own address is asked for when somebody wants it, and kept at the end. An IPv4 address in
        # digits is written in one way only, so the peer's is known; but all zeros stand for another.
        transport._extra = {"socket": trsock.TransportSocket(sock)}
        if family == socket.AF_INET and address[0] != "0.0.0.0":
            transport._extra["peername"] = address
        transport._open(loop, sock, protocol, copy_context(), waiter)
    except BaseException:
        # An interrupt may come when the transport has it already.
        if loop._is_of_transport(sock.fileno()):
            transport.abort()
        else:
            sock.close()
        raise
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    if loop.get_debug():
        host, port = address[:2]
        logger.debug("%r connected to %s:%r: (%r, %r)", sock, host, port, transport, protocol)
    return transport, protocol
