"""`ssl=` with a recipe of tepal's: the connection gets a layer, and no second transport over it."""

from __future__ import annotations

import asyncio
import sys
from asyncio import constants
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ._pending import Pending
from ._protocol import Protocol
from ._reaching import NO_TIMEOUTS, Timeouts

Factory = Callable[[], asyncio.BaseProtocol]


def recipe_of(value: Any) -> Any:
    """The recipe for a layer of TLS, if `ssl=` was given one; else None.

    Raises:
        TypeError: it is a recipe for something else.
    """
    # Whoever made a recipe has imported the module.
    layers = sys.modules.get("tepal._layers")
    if layers is None or not isinstance(value, layers.LayerSpec):
        return None
    if value.name != "tls":
        raise TypeError(f"ssl takes an ssl.SSLContext, a tepal.TLS or a tepal.OpenSSL, not {value!r}")
    return value


def _limits(handshake: float | None, closing: float | None) -> Timeouts:
    from ._tls import positive

    return replace(
        NO_TIMEOUTS,
        handshake=positive("ssl_handshake_timeout", handshake, constants.SSL_HANDSHAKE_TIMEOUT),
        closing=positive("ssl_shutdown_timeout", closing, constants.SSL_SHUTDOWN_TIMEOUT),
    )


def _specs(recipe: Any) -> Any:
    from ._layers import specs_of

    return specs_of([recipe])


def pending_protocol(
    loop: Any,
    protocol: asyncio.BaseProtocol,
    recipe: Any,
    host: str | None,
    server_side: bool,
    handshake: float | None,
    closing: float | None,
) -> Pending:
    """What stands in a protocol's place until the handshake is done, for one connection."""
    limits = _limits(handshake, closing)
    return Pending(loop, lambda: protocol, _specs(recipe), host or None, limits, server_side, recipe)


def served(
    loop: Any, factory: Factory, recipe: Any, handshake: float | None, closing: float | None
) -> tuple[Callable[[], Pending], dict[str, Any]]:
    """The same for each connection of a server: the factory, and the listener's options."""
    limits = _limits(handshake, closing)
    options = {"layers": _specs(recipe), "handshake": limits.handshake, "closing": limits.closing}
    return lambda: Pending(loop, factory, server_side=True, recipe=recipe), options


class _Upgrading(Protocol):
    """Stands in a protocol's place during the handshake of `start_tls`."""

    def __init__(self, protocol: asyncio.BaseProtocol, transport: Any, done: asyncio.Future[None]) -> None:
        self.protocol, self.transport, self.done = protocol, transport, done

    def layer_ready(self, name: str, info: object) -> None:
        self._end(None)

    def eof_received(self) -> None:
        self._end(ConnectionResetError("the peer ended the connection during the handshake"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end(exc or ConnectionAbortedError("the connection was closed during the handshake"))
        self.protocol.connection_lost(exc)  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()

    def _end(self, error: BaseException | None) -> None:
        if self.transport.get_protocol() is self:
            self.transport.set_protocol(self.protocol)
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


# As many hosts are remembered with a recipe; more of them cost their sessions.
_MOST_HOSTS = 64


def _for_side(recipe: Any, server_side: bool, host: str | None) -> Any:
    # asyncio says both with each call; a recipe has them. It is made once for each host, so that what
    # belongs to it, such as the sessions to resume, lives as long as the one that was given.
    if recipe.server_side not in (None, server_side):
        raise ValueError(f"server_side is {server_side}, and that of {recipe!r} is {recipe.server_side}")
    host = recipe.server_hostname or host
    if (recipe.server_side, recipe.server_hostname) == (server_side, host):
        return recipe
    made: dict[Any, Any] = recipe.__dict__.setdefault("_for_sides", {})
    key = (server_side, host)
    if key not in made:
        if len(made) >= _MOST_HOSTS:
            made.clear()
        made[key] = replace(recipe, server_side=server_side, server_hostname=host)
    return made[key]


async def upgrade(
    loop: Any,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    recipe: Any,
    *,
    server_side: bool,
    server_hostname: str | None,
    handshake: float | None,
    closing: float | None,
) -> Any:
    """`start_tls` with a recipe: the layer is pushed; the transport stays the same."""
    push = getattr(transport, "push_layer", None)
    if push is None:
        raise TypeError(f"transport {transport!r} is not supported by start_tls() with {recipe!r}")
    given, recipe = recipe, _for_side(recipe, server_side, server_hostname)
    limits = _limits(handshake, closing)
    done = loop.create_future()
    transport._set_spans(limits.handshake, limits.closing)
    transport.set_protocol(_Upgrading(protocol, transport, done))
    try:
        # What a client has got in plain text must not be taken for what TLS protects.
        push(recipe, residual="feed" if server_side else "reject")
        await done
        transport._tls_given = given, server_side
    except BaseException:
        if isinstance(transport.get_protocol(), _Upgrading):
            transport.set_protocol(protocol)
        transport.close()
        del done
        raise
    return transport
