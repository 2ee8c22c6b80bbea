"""Protocols with a consumed count, hooks on the way, and PEP 3156's other names."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from . import _tepal

if TYPE_CHECKING:
    from ._transports import StreamTransport

    # asyncio's `data_received` has no result. Other loops ignore ours.
    _Base = asyncio.BaseProtocol
else:
    _Base = asyncio.Protocol


class Protocol(_Base):
    """An `asyncio.Protocol` with more to hear and, if it wants, a say in how much it has read.

    Every method is optional. `data_received` may return how many bytes of its data it used: the
    transport keeps the rest and offers it again, at once if the count is above zero and bytes
    remain, else with the next bytes. None means all of them. A wrong count closes the connection.

    `io_in`, `pause_io_out` and `resume_io_out` are other names of `data_received`, `pause_writing`
    and `resume_writing`. Where a class overrides both, asyncio's name wins. Which of them there
    are is looked up when the protocol is set.

    On another event loop it works as an `asyncio.Protocol` does: the counts are ignored.
    """

    def connection_established(self, transport: StreamTransport) -> None:
        """Bytes may flow: all layers have finished their handshakes.

        After `connection_made`, once for each connection that a reconnect makes.
        """

    def data_received(self, data: bytes) -> int | None:
        """Bytes arrived. Returns how many of them were used; None: all."""
        if type(self).io_in is not Protocol.io_in:
            return self.io_in(data)
        return None

    def eof_received(self) -> bool | None:
        """The peer ended its direction. A true result keeps ours open."""
        return None

    def io_in(self, data: bytes) -> int | None:
        """Another name of `data_received`."""
        if type(self).data_received is not Protocol.data_received:
            return self.data_received(data)
        return None

    def pause_writing(self) -> None:
        """More is buffered than the high mark, in all layers. Called inside `write`."""
        if type(self).pause_io_out is not Protocol.pause_io_out:
            self.pause_io_out()

    def pause_io_out(self) -> None:
        """Another name of `pause_writing`."""
        if type(self).pause_writing is not Protocol.pause_writing:
            self.pause_writing()

    def resume_writing(self) -> None:
        """No more is buffered than the low mark."""
        if type(self).resume_io_out is not Protocol.resume_io_out:
            self.resume_io_out()

    def resume_io_out(self) -> None:
        """Another name of `resume_writing`."""
        if type(self).resume_writing is not Protocol.resume_writing:
            self.resume_writing()

    def io_out(self) -> None:
        """Everything that was written has left: the buffer is empty.

        Once after the turn that drained it, never inside `write`.
        """

    def timeout_dns(self) -> None:
        """The peer's name was not looked up in time. `transport.reconnect()` is legal here."""

    def timeout_connecting(self) -> None:
        """No address answered in time. `transport.reconnect()` is legal here."""

    def timeout_handshake(self) -> None:
        """A layer's handshake took too long. `transport.reconnect()` is legal here."""

    def timeout_idle(self) -> None:
        """The connection was quiet for `Timeouts.idle` seconds. It stays up."""

    def error_dns(self, exc: BaseException) -> None:
        """The peer's name has no address, or could not be looked up."""

    def error_connecting(self, exc: BaseException) -> None:
        """No address could be connected."""

    def error_ssl(self, exc: BaseException) -> None:
        """A TLS handshake failed. By default it goes to `error_layer`."""
        self.error_layer(exc)

    def error_layer(self, exc: BaseException) -> None:
        """A layer could not be built, or its handshake failed."""

    def layer_ready(self, name: str, info: Any) -> None:
        """A layer has finished its handshake: `info` is what it found out, or None."""

    def layer_added(self, name: str) -> None:
        """A layer was put in by `transport.push_layer`."""

    def layer_removed(self, name: str, how: str) -> None:
        """A layer is gone: what comes now comes from the layer below it.

        `how`: "finished" (its handshake was its work), "closed", "unconfirmed" (closed without
        waiting for the peer), "by_peer" or "timed_out".
        """

    def layer_idle(self, name: str) -> None:
        """Nothing has passed an `Idle` layer for its time."""

    def layer_request(self, name: str, request: Any) -> None:
        """A client of a proxy layer has said where it wants to go."""


_tepal.set_protocol_class(Protocol)


class LineProtocol(Protocol):
    """Calls `line_received` for each line, and keeps no buffer of its own.

    Set `raw` to True inside `line_received` to get what follows by `raw_received`, and to False to
    get lines again.
    """

    delimiter: bytes = b"\n"
    """What ends a line."""
    max_length: int = 65536
    """The longest line, without its end; a longer one ends the connection."""
    raw: bool = False
    """Whether `raw_received` gets the bytes."""
    transport: Any = None
    """From `connection_made` on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def line_received(self, line: bytes) -> None:
        """A line, without its end."""

    def raw_received(self, data: bytes) -> int | None:
        """Bytes of raw mode; the result is a count as that of `data_received`."""

    def data_received(self, data: bytes) -> int | None:
        used = 0
        while True:
            if self.raw:
                # What is offered again after a count goes to whoever's turn it is then.
                if used:
                    return used
                return self.raw_received(data)
            end = data.find(self.delimiter, used)
            if end < 0:
                if len(data) - used > self.max_length + len(self.delimiter):
                    raise ValueError(f"a line is longer than {self.max_length} bytes")
                return used
            if end - used > self.max_length:
                raise ValueError(f"a line is longer than {self.max_length} bytes")
            line = data[used:end]
            used = end + len(self.delimiter)
            self.line_received(line)
            if not self.transport.is_reading():
                return used


class NetstringProtocol(Protocol):
    """Calls `string_received` for each netstring (`3:abc,`), and keeps no buffer of its own."""

    max_length: int = 1 << 20
    """The longest one; a longer one ends the connection at its length."""
    transport: Any = None
    """From `connection_made` on."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def string_received(self, data: bytes) -> None:
        """The bytes of one netstring."""

    def data_received(self, data: bytes) -> int | None:
        used = 0
        digits = len(str(self.max_length))
        while True:
            colon = data.find(b":", used, used + digits + 1)
            head = data[used:colon] if colon >= 0 else data[used : used + digits + 1]
            if (head and not head.isdigit()) or (head.startswith(b"0") and head != b"0"):
                raise ValueError("a netstring's length is no number")
            if colon < 0:
                if len(head) > digits:
                    raise ValueError(f"a netstring is longer than {self.max_length} bytes")
                return used
            if not head:
                raise ValueError("a netstring has no length")
            length = int(head)
            if length > self.max_length:
                raise ValueError(f"a netstring is longer than {self.max_length} bytes")
            end = colon + 1 + length
            if len(data) <= end:
                return used
            if data[end : end + 1] != b",":
                raise ValueError("a netstring does not end with a comma")
            string = data[colon + 1 : end]
            used = end + 1
            self.string_received(string)
            if not self.transport.is_reading():
                return used
