"""Layers made of classes that were written for asyncio's pair of protocol and transport."""

from __future__ import annotations

import asyncio
from asyncio import protocols
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._layer import How, Layer
from ._values import kind_of

if TYPE_CHECKING:
    from ._tepal import LayerIO


class ProtocolLayer(Layer):
    """Puts an object that is protocol below and transport above into a stack, as asyncio's
    `SSLProtocol` is: so any class written for asyncio's pair plugs in as a layer.

    `ProtocolLayer.spec(factory)`: `factory(upper)` is called for each connection attempt, and
    returns an `asyncio.Protocol`. It is given the layer's lower side as its transport, by
    `connection_made`. `upper` is an `asyncio.Protocol` too: the object calls
    `upper.connection_made(transport)` with a transport of its own, once bytes may flow, then
    `upper.data_received`, `upper.eof_received`, `upper.connection_lost` and, for pressure,
    `upper.pause_writing` and `upper.resume_writing`. What is written above arrives by
    `transport.write`; a close by `transport.close`.

        import asyncio.sslproto

        def tls(upper):
            return asyncio.sslproto.SSLProtocol(loop, upper, context, None, True)

        layers = [tepal.ProtocolLayer.spec(tls)]

    Args:
        factory: makes the object.
        name: the command name.
    """

    name = "protocol"

    def __init__(self, factory: Callable[[asyncio.Protocol], asyncio.BaseProtocol]) -> None:
        if not callable(factory):
            raise TypeError(f"factory must be callable, not {kind_of(factory)}")
        self._factory = factory
        self._protocol: Any = None
        self._below = _Below(self)
        self._above = _Above(self)
        self._upper_transport: Any = None
        # What could not be moved yet: None is the end.
        self._down: deque[bytes | None] = deque()
        self._up: deque[bytes | None] = deque()
        self._down_len = 0
        self._paused_below = False
        self._paused_above = False
        self._told_to_pause = False
        self._told_upper_to_pause = False
        self._eof_seen = False
        self._close_asked = False
        self._closed_below = False
        self._failure: BaseException | None = None
        self._begun = False
        self._io: LayerIO | None = None

    @property
    def protocol(self) -> Any:
        """The object, once the first step has made it."""
        return self._protocol

    def step(self, io: LayerIO) -> How | None:
        self._io = io
        try:
            return self._move(io)
        finally:
            self._io = None

    def _move(self, io: LayerIO) -> How | None:
        if not self._begun:
            self._begun = True
            self._protocol = self._factory(self._above)
            self._protocol.connection_made(self._below)
        if self._upper_transport is not None:
            io.ready()
        self._flush(io)
        self._feed_up(io)
        self._feed_down(io)
        if io.finishing and not len(io.from_above) and not self._close_asked:
            self._close_asked = True
            if self._upper_transport is None:
                self._closed_below = True
            else:
                self._upper_transport.close()
        self._flush(io)
        if self._failure is not None:
            raise self._failure
        if self._closed_below and io.finishing and not self._down:
            return "closed"
        return None

    # From below to the object.
    def _feed_up(self, io: LayerIO) -> None:
        source = io.from_below
        while len(source) and not self._paused_below and not self._up:
            data = source.bytes()
            source.consume(len(data))
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                protocols._feed_data_to_buffered_proto(self._protocol, data)  # type: ignore[attr-defined]
            else:
                self._protocol.data_received(data)
        if source.ended and not self._eof_seen and not len(source):
            self._eof_seen = True
            if not self._protocol.eof_received():
                self._closed_below = True

    # From above to the object.
    def _feed_down(self, io: LayerIO) -> None:
        transport = self._upper_transport
        if transport is None:
            return
        source = io.from_above
        while len(source) and not self._paused_above and io.to_below.room():
            # One piece at a time, so that the pressure is felt.
            data = source.bytes(65536)
            source.consume(len(data))
            transport.write(data)
        if source.ended and not len(source) and transport.can_write_eof():
            source.take_eof()
            transport.write_eof()

    # What the object has written and pushed, as far as there is room.
    def _flush(self, io: LayerIO) -> None:
        while self._up and io.to_above.may_push():
            data = self._up.popleft()
            if data is None:
                io.to_above.push_eof()
            else:
                io.to_above.push(data)
        # The object hears of a pause on its right by its transport, of one on its left (below) by
        # its protocol.
        if bool(self._up) != self._told_upper_to_pause and self._upper_transport is not None:
            self._told_upper_to_pause = not self._told_upper_to_pause
            if self._told_upper_to_pause:
                self._upper_transport.pause_reading()
            else:
                self._upper_transport.resume_reading()
        while self._down and io.to_below.room():
            data = self._down.popleft()
            if data is None:
                io.to_below.send_eof()
            else:
                self._down_len -= len(data)
                io.to_below.send(data)
        # The way down is full while something waits: for the object that is a pause on its left.
        waits = bool(self._down) or len(io.from_above) > 0
        stuck = waits and io.to_below.room() == 0
        if stuck and not self._told_to_pause:
            self._told_to_pause = True
            self._protocol.pause_writing()
        elif self._told_to_pause and not stuck and self._down_len <= self._below.low:
            self._told_to_pause = False
            self._protocol.resume_writing()

    def _send(self, data: bytes | None) -> None:
        self._down.append(data)
        if data is not None:
            self._down_len += len(data)
        if self._io is None:
            self.wake()
        else:
            self._flush(self._io)
        if self._down_len > self._below.high and not self._told_to_pause:
            self._told_to_pause = True
            self._protocol.pause_writing()

    def _push(self, data: bytes | None) -> None:
        self._up.append(data)
        if self._io is None:
            self.wake()
        else:
            self._flush(self._io)

    def gone(self) -> None:
        if self._begun:
            protocol, self._begun = self._protocol, False
            if protocol is not None:
                protocol.connection_lost(None)
        self._upper_transport = self._protocol = None


class _Below(asyncio.Transport):
    """The lower side of a `ProtocolLayer`, as its object sees it."""

    def __init__(self, layer: ProtocolLayer) -> None:
        super().__init__()
        self._layer = layer
        self._eof_written = False
        self.low, self.high = 16384, 65536

    def get_protocol(self) -> Any:
        return self._layer._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._layer._protocol = protocol

    def is_closing(self) -> bool:
        return self._layer._closed_below or not self._layer._begun

    def close(self) -> None:
        self._layer._closed_below = True
        if self._layer._io is None:
            self._layer.wake()

    def abort(self) -> None:
        self._layer._failure = ConnectionAbortedError("aborted by a layer's protocol")
        self.close()

    def is_reading(self) -> bool:
        return not self._layer._paused_below

    def pause_reading(self) -> None:
        self._layer._paused_below = True

    def resume_reading(self) -> None:
        self._layer._paused_below = False
        if self._layer._io is None:
            self._layer.wake()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {kind_of(data)}")
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if len(data) and not self.is_closing():
            self._layer._send(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_written and not self.is_closing():
            self._eof_written = True
            self._layer._send(None)

    def get_write_buffer_size(self) -> int:
        return self._layer._down_len

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return (self.low, self.high)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 65536 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.low, self.high = low, high

    # asyncio's SSLProtocol asks its transport to do this.
    def _force_close(self, exc: BaseException | None) -> None:
        self._layer._failure = exc or ConnectionAbortedError("aborted by a layer's protocol")
        self.close()


class _Above(asyncio.Protocol):
    """The upper side of a `ProtocolLayer`, as its object sees it."""

    def __init__(self, layer: ProtocolLayer) -> None:
        self._layer = layer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        layer = self._layer
        layer._upper_transport = transport
        if layer._io is None:
            layer.wake()
        else:
            layer._io.ready()

    def data_received(self, data: bytes) -> None:
        if len(data):
            self._layer._push(bytes(data))

    def eof_received(self) -> bool:
        self._layer._push(None)
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        layer = self._layer
        if exc is not None:
            layer._failure = exc
        if layer._io is None:
            layer.wake()

    def pause_writing(self) -> None:
        self._layer._paused_above = True

    def resume_writing(self) -> None:
        self._layer._paused_above = False
        if self._layer._io is None:
            self._layer.wake()
