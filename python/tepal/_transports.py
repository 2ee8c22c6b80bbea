"""The classes of transports: the native halves, and what is not on a hot path."""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio import constants, transports, trsock
from typing import TYPE_CHECKING, Any

from ._listed import Listed
from ._stacked import Stacked
from ._tepal import DatagramTransport as NativeDatagram
from ._tepal import StreamTransport as NativeStream
from ._tls_facts import fact_of

if TYPE_CHECKING:
    from ._records import TLSInfo


class _StreamInterface(transports._FlowControlMixin, asyncio.Transport):  # type: ignore[name-defined, misc]
    """What `isinstance` sees. asyncio's classes have slots, which a native base cannot join."""


def _writing(transport: Any) -> str:
    size = transport.get_write_buffer_size()
    return f"write=<{'polling' if size else 'idle'}, bufsize={size}>"


def _closed_socket() -> socket.socket:
    # What asyncio has left of its socket after the end. An ordinary one costs a descriptor.
    sock = socket.socket.__new__(socket.socket)
    sock._io_refs, sock._closed = 0, True  # type: ignore[attr-defined]
    return sock


class StreamTransport(Listed, Stacked, NativeStream):
    """A stream connection on tepal's loop. Made by the loop's methods, not by its users."""

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE  # type: ignore[attr-defined]
    _protocol_paused = False
    _extra: dict[str, Any] | None = None
    # The recipe that `ssl=` or `start_tls` was given, and which side we are.
    _tls_given: tuple[Any, bool] | None = None

    # `isinstance` asks for it after the type itself.
    __class__ = property(lambda self: _StreamInterface)  # type: ignore[assignment]

    @property
    def _paused(self) -> bool:
        # What programs read of asyncio's transport nonetheless.
        return not (self.is_reading() or self.is_closing())

    @property
    def _closing(self) -> bool:
        return self.is_closing()

    def _find_fact(self, name: str, default: Any) -> Any:
        # For `get_extra_info`, which knows what `_extra` has, and keeps the socket itself.
        if name == "socket":
            sock = self._sock
            if sock is None:
                if not self._lost:
                    return default
                sock = _closed_socket()
            return trsock.TransportSocket(sock)
        value = self._take_peer() if name == "peername" else self._take_local()
        if value is None:
            return default
        if self._extra is None:
            self._extra = {}
        self._extra[name] = value
        return value

    def _tls_fact(self, name: str, info: TLSInfo) -> Any:
        # The same, of a layer of TLS.
        recipe, server_side = self._tls_given or (None, None)
        return fact_of(name, info, recipe, server_side)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        from ._transport_calls import transport_failed

        transport_failed(self, message, exc)
        self._force_close(exc)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._lost:
            info.append("closed")
        elif self.is_closing():
            info.append("closing")
        if self._sock_fd >= 0:
            info.append(f"fd={self._sock_fd}")
        if self._was_opened and not self._lost:
            info.append("read=polling" if self.is_reading() else "read=idle")
            info.append(_writing(self))
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._was_opened and not self._lost:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._drop_socket()


class _DatagramInterface(transports._FlowControlMixin, asyncio.DatagramTransport):  # type: ignore[name-defined, misc]
    """What `isinstance` sees."""


class DatagramTransport(Listed, NativeDatagram):
    """A datagram endpoint on tepal's loop. Made by `create_datagram_endpoint`."""

    _protocol_paused = False

    __class__ = property(lambda self: _DatagramInterface)  # type: ignore[assignment]

    def __init__(self) -> None:
        self._extra: dict[str, Any] = {}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the endpoint: "socket", "sockname", "peername"."""
        return self._extra.get(name, default)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        from ._transport_calls import transport_failed

        transport_failed(self, message, exc)
        self._force_close(exc)

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._lost:
            info.append("closed")
        elif self.is_closing():
            info.append("closing")
        if self._sock_fd >= 0:
            info.append(f"fd={self._sock_fd}")
            info.append("read=idle" if self.is_closing() else "read=polling")
            info.append(_writing(self))
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._was_opened and not self._lost:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            sock = self._sock
            if sock is not None:
                sock.close()


# Before, asyncio took an empty datagram for nothing to send.
_SENDS_EMPTY = sys.version_info >= (3, 13)


def open_datagram(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    address: Any,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
    context: Any,
) -> DatagramTransport:
    """A transport over a bound or connected datagram socket, which it closes."""
    transport = DatagramTransport()
    facts = transport._extra
    facts.update(extra or {})
    facts["socket"] = trsock.TransportSocket(sock)
    try:
        facts["sockname"] = sock.getsockname()
    except OSError:
        facts["sockname"] = None
    if "peername" not in facts:
        try:
            facts["peername"] = sock.getpeername()
        except OSError:
            facts["peername"] = None
    connected = bool(facts["peername"])
    transport._open(
        loop, sock, protocol, context, address or None, connected, _SENDS_EMPTY, waiter
    )
    return transport


def open_stream(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
    server: Any,
    context: Any,
    stacked: bool = False,
) -> StreamTransport:
    """A transport over a connected socket, which it closes."""
    transport = StreamTransport()
    facts = dict(extra or {})
    facts["socket"] = trsock.TransportSocket(sock)
    try:
        facts["sockname"] = sock.getsockname()
    except OSError:
        facts["sockname"] = None
    if "peername" not in facts:
        try:
            facts["peername"] = sock.getpeername()
        except OSError:
            facts["peername"] = None
    transport._extra = facts
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport._open(loop, sock, protocol, context, waiter, server, stacked)
    return transport
