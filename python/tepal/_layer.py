"""Layers written in Python."""

from __future__ import annotations

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
