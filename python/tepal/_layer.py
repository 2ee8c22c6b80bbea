"""Layers written in Python: `Layer`, and `ProtocolLayer`, which makes one of asyncio's classes."""

from __future__ import annotations

import asyncio
from asyncio import protocols
from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from . import _tepal
from ._layers import LayerSpec
from ._values import check_str, kind_of

if TYPE_CHECKING:
    from ._tepal import LayerIO

How = Literal["finished", "closed", "unconfirmed", "by_peer", "timed_out"]


class Layer(_tepal.LayerBase):
    """One state machine of a stack: bytes and time in, bytes and one deadline out.

    A layer owns no socket, reads no clock and never calls the layer next to it. `step(io)` is
    called whenever something around it has changed: bytes came from below or from above, room
    appeared, its `deadline` passed. It looks at what is there, moves what it can, and returns.

    What it may rely on, and what it must do:

    * What a step does not consume is shown again, with more behind it. `io.from_below.need(n)`
      asks to be left alone until n bytes are there. It bounds what it waits for itself.
    * It asks `io.to_above.may_push()` before each piece it pushes up, and `io.to_below.room()`
      before each it sends down. A refusal is remembered: it is stepped again in time.
    * `io.ready()`, once, says that bytes may flow through it: its handshake is done.
    * When `io.finishing` is true it says its goodbye and returns how it ended. A layer whose
      handshake was its work returns "finished" and leaves the stack.
    * What it raises ends the connection, after what it has sent before has left. A `LayerError`
      blames the peer, and is what `connection_lost` gets. Any other exception is a mistake, which
      the loop's exception handler hears of too.
    * `io` is valid during the step only. What happens outside of one (a timer, a task) is followed
      by `wake()`, and done in the step that comes.

    A recipe for connections is `MyLayer.spec(...)`, or the class itself if it takes no arguments:

        class Xor(tepal.Layer):
            name = "xor"

            def __init__(self, key):
                self.key = key

            def step(self, io):
                io.ready()
                if len(io.from_below) and io.to_above.may_push():
                    data = io.from_below.bytes()
                    io.from_below.consume(len(data))
                    io.to_above.push(bytes(byte ^ self.key for byte in data))
                while len(io.from_above) and io.to_below.room():
                    data = io.from_above.bytes()
                    io.from_above.consume(len(data))
                    io.to_below.send(bytes(byte ^ self.key for byte in data))
                return "closed" if io.finishing else None

        transport = loop.connect(Client, "server.example", 7000, layers=[Xor.spec(0x55)])
    """

    name: ClassVar[str] = "layer"
    """The command name: what errors, `layer_removed` and `below=` say. ASCII, no spaces."""
    keeps_writes: bool = False
    """Whether one write from above is one frame, kept apart from the next."""
    write_eof: Literal["passes", "taken", "refused"] = "passes"
    """What becomes of `write_eof()` here: it passes to the layer below after all bytes; or the
    layer says it in its own way and takes it; or it cannot be said, and is refused."""
    deadline: float | None = None
    """When to be stepped though nothing else happens, on the loop's clock. Read after each step."""
    server_side: bool = False
    """Whether we accepted the connection. Set before the first step."""
    host: str | None = None
    """The host that the layer talks to, or through to. Set before the first step."""

    @classmethod
    def spec(cls, *args: Any, **kwargs: Any) -> LayerRecipe:
        """A recipe: each connection attempt builds a fresh `cls(*args, **kwargs)`."""
        return LayerRecipe(cls, args, tuple(kwargs.items()))

    @classmethod
    def _layer_spec(cls) -> _tepal.Spec:
        # One per class, so that it is one recipe wherever it is given.
        known = cls.__dict__.get("_recipe")
        if known is None:
            known = cls.spec()
            cls._recipe = known  # type: ignore[attr-defined]
        native: _tepal.Spec = known._native
        return native

    def step(self, io: LayerIO) -> How | None:
        """Move what can be moved.

        Returns:
            None to stay; or how it ended: "finished", "closed", "unconfirmed" (without waiting for
            the peer), "by_peer", "timed_out".
        """
        raise NotImplementedError(f"{type(self).__name__}.step")

    def handle_command(self, command: Any) -> None:
        """Take an order from `transport.command`. What it raises goes to the caller's loop only."""
        raise ValueError(f"the layer {self.name!r} takes no commands")

    def gone(self) -> None:
        """The layer has left its stack, or the connection ended. The last call."""


@dataclass(frozen=True, repr=False)
class LayerRecipe(LayerSpec):
    """A recipe for layers written in Python; see `Layer.spec`."""

    layer: Callable[..., Layer]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    _: KW_ONLY
    layer_name: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.layer):
            raise TypeError(f"layer must be a class or a factory, not {kind_of(self.layer)}")
        name = self.layer_name
        if name is None:
            name = check_str("name", getattr(self.layer, "name", "layer"))
        self._make(_tepal.spec_python, name, self)

    def _build(self) -> Layer:
        return self.layer(*self.args, **dict(self.kwargs))


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
