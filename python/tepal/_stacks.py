"""Connections and servers as stacks: `connect`, `listen`, `layers=` on asyncio's own entries."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from ._asker import Asker
from ._connecting import address_in_digits, connect
from ._names import Names, _socket_getaddrinfo
from ._pending import Pending
from ._reaching import NO_TIMEOUTS, Backoff, Timeouts
from ._resolver import Resolver, SystemResolver
from ._server import Limits, Server
from ._stories import Story, limited
from ._transports import StreamTransport, open_stream
from ._values import check_bool, check_int, check_word, kind_of

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object

Factory = Callable[[], asyncio.BaseProtocol]


def _specs_of(layers: Iterable[Any]) -> Any:
    # Not at the top: the module is imported when the first layer is asked for.
    from ._layers import specs_of

    return specs_of(layers)


async def _started(server: asyncio.Server) -> None:
    """Starts it; whoever is cancelled meanwhile has no server that he could close."""
    try:
        await server.start_serving()
    except BaseException:
        server.close()
        raise


class Stacks(Base):
    """The part of `Loop` about stacks."""

    def connect(
        self,
        protocol_factory: Factory,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        sock: socket.socket | None = None,
        layers: Iterable[Any] = (),
        local: tuple[str, int] | None = None,
        resolver: Any = None,
        addresses: Literal["linear", "race"] = "linear",
        handshakes: Literal["next", "race", "once"] = "next",
        timeouts: Timeouts | None = None,
        backoff: Backoff | None = None,
    ) -> StreamTransport:
        """Make a connection, and return its transport at once, with the protocol attached.

        What is wrong with the arguments, and what the factory raises, is raised here. Then
        `connection_made(transport)` comes in the next turn, before the first query leaves;
        `connection_established(transport)` when bytes may flow. Bytes written before are queued.
        The protocol's hooks tell what happens on the way; see `tepal.Protocol`.

        Args:
            protocol_factory: makes the protocol; any class of asyncio's will do.
            host: a name or an address; with `port`.
            path: a Unix socket's path, instead.
            sock: a connected socket, instead.
            layers: recipes for layers, from the wire upward.
            local: an address and a port to bind first.
            resolver: who resolves the name. None: the loop's.
            addresses: in which way several are tried: one after another, or as a race (RFC 8305).
            handshakes: what a failed handshake of a layer means for the addresses that are left.
                "next": the next one is tried, unless credentials were refused or a setting of ours
                is wrong. "race": handshakes are part of the race of addresses, and the first to
                finish them all wins. "once": none is tried.
            timeouts: how long each phase may take.
            backoff: the plan by which a failed or lost connection is made anew.
        """
        self._check_closed()
        if self.get_debug():
            self._check_thread()
        specs = _specs_of(layers)
        check_word("addresses", addresses, ("linear", "race"))
        check_word("handshakes", handshakes, ("next", "race", "once"))
        limits = _timeouts(timeouts)
        # What follows has no socket object that would tell.
        sys.audit("tepal.connect", host, port, path)
        if backoff is not None and not isinstance(backoff, Backoff):
            raise TypeError(f"backoff must be a tepal.Backoff, not {kind_of(backoff)}")
        given = [name for name, value in (("host", host), ("path", path), ("sock", sock)) if value]
        if len(given) != 1:
            listed = " and ".join(given) or "none"
            raise ValueError(f"exactly one of host, path and sock is to be given, not {listed}")
        if (host is None) != (port is None):
            raise ValueError("host and port go together")
        if not callable(protocol_factory):
            raise TypeError(f"protocol_factory must be callable, not {kind_of(protocol_factory)}")
        context = contextvars.copy_context()
        if host is not None and not isinstance(host, str):
            raise TypeError(f"host must be a str, not {kind_of(host)}")
        if port is not None:
            check_int("port", port, 0, 65535)
        bound = None if local is None else _local_address(local)
        plan = None
        if backoff is not None:
            plan = backoff._numbers()
        if sock is not None:
            if local is not None or backoff is not None:
                raise ValueError("a connected sock takes no local and no backoff")
            return self._adopt_socket(protocol_factory(), sock, specs, limits, context)
        peer: Any = os.fsdecode(path) if path is not None else (host, port)
        chosen = self._resolver_key(resolver)
        protocol = protocol_factory()
        transport = StreamTransport()
        transport._connect(
            self,
            protocol,
            context,
            peer,
            bound,
            chosen,
            (addresses == "race", handshakes),
            limits._seconds(),
            plan,
            specs,
        )
        transport._specs = specs
        return transport

    # Who resolves the name of a connection; None is the loop's own resolver.
    def _resolver_key(self, resolver: Any) -> int | None:
        if resolver is None:
            if self._resolves_natively():
                return None
            resolver = self
        keys: dict[Any, int] = self.__dict__.setdefault("_resolver_keys", {})
        if isinstance(resolver, Resolver):
            name = repr(resolver)
            if name not in keys:
                keys[name] = self._add_resolver(*resolver._settings())
            return keys[name]
        if not isinstance(resolver, SystemResolver) and not callable(
            getattr(resolver, "getaddrinfo", None)
        ):
            raise TypeError(f"resolver must have a getaddrinfo method, not {kind_of(resolver)}")
        number = id(resolver)
        if number not in keys:
            keys[number] = self._add_foreign_resolver(Asker(self, resolver))
        return keys[number]

    def _resolves_natively(self) -> bool:
        return (
            self._system_resolver is None
            and socket.getaddrinfo is _socket_getaddrinfo
            and type(self).getaddrinfo is Names.getaddrinfo
        )

    def _adopt_socket(
        self,
        protocol: asyncio.BaseProtocol,
        sock: socket.socket,
        specs: list[Any],
        limits: Timeouts,
        context: contextvars.Context,
    ) -> StreamTransport:
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        sock.setblocking(False)
        transport = open_stream(self, sock, protocol, None, None, None, context, stacked=True)
        transport._set_spans(limits.handshake, limits.closing)
        if specs:
            transport._set_layers(specs, False, None)
            transport._specs = specs
        return transport

    async def listen(
        self,
        protocol_factory: Factory,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        sock: socket.socket | None = None,
        layers: Iterable[Any] = (),
        backlog: int = 1024,
        reuse_port: bool = False,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> Server:
        """Accept connections. `await server.drain(seconds)` ends the server gracefully.

        Each connection gets a protocol of `protocol_factory`, whose counts are read and whose hooks
        are called, and fresh layers of the recipes, from the wire upward.

        Args:
            protocol_factory: makes the protocol of each connection.
            host: a name or an address; None and "" are all addresses.
            port: 0 lets the kernel choose.
            path: a Unix socket's path, instead.
            sock: a bound socket, instead.
            layers: recipes for layers.
            backlog: how many connections may wait in the kernel.
            reuse_port: let other processes listen on the port too.
            limits: how many connections, and how much unread.
            timeouts: how long each phase of a connection may take, and how long it may be quiet or
                live; what is before the connection does not count.
        """
        self._check_closed()
        specs = _specs_of(layers)
        check_int("backlog", backlog, 1)
        check_bool("reuse_port", reuse_port)
        spans = _timeouts(timeouts)
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits must be a tepal.Limits, not {kind_of(limits)}")
        if not callable(protocol_factory):
            raise TypeError(f"protocol_factory must be callable, not {kind_of(protocol_factory)}")
        if path is not None:
            if host is not None or port is not None or sock is not None:
                raise ValueError("path is to be given alone")
            made = await self.create_unix_server(
                protocol_factory, os.fspath(path), backlog=backlog, start_serving=False
            )
        elif sock is not None:
            if host is not None or port is not None:
                raise ValueError("sock is to be given alone")
            make = self.create_server
            if sock.family == socket.AF_UNIX:
                make = self.create_unix_server
            made = await make(protocol_factory, sock=sock, backlog=backlog, start_serving=False)
        else:
            if port is None:
                raise ValueError("one of port, path and sock is to be given")
            check_int("port", port, 0, 65535)
            made = await self.create_server(
                protocol_factory, host, port, backlog=backlog, reuse_port=reuse_port or None,
                start_serving=False,
            )  # fmt: skip
        if not made.sockets and not sock:
            # Before 3.13 asyncio makes a server of nothing if no socket can be had.
            raise OSError(errno.EADDRNOTAVAIL, f"could not bind on any address of {host!r}")
        made.__class__ = Server
        made._tepal_clients = weakref.WeakSet()
        made._listener_options = {
            "layers": specs,
            "stacked": True,
            "most": None if limits is None else limits.connections,
            "read_limit": None if limits is None else limits.read,
            "handshake": spans.handshake,
            "closing": spans.closing,
            "quiet": spans._seconds() if spans._watch() else None,
        }
        await _started(made)
        server: Server = made
        return server

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        layers: Iterable[Any] = (),
        timeouts: Timeouts | None = None,
        addresses: Literal["linear", "race"] | None = None,
        **keywords: Any,
    ) -> tuple[Any, Any]:
        """As `asyncio.loop.create_connection`; and with layers, limits of time, a strategy.

        Args:
            layers: recipes for layers, from the wire upward; not together with `ssl`.
            timeouts: how long each phase may take. None: no limit, as asyncio has it.
            addresses: "linear" or "race". None: as asyncio's `happy_eyeballs_delay` says.

        Raises:
            OSError: asyncio's own exceptions; each has the whole story in its `problem`.
        """
        if layers == () and timeouts is None and addresses is None:
            digits = address_in_digits(self, host, port, keywords)
            if digits is not None:
                return await connect(self, protocol_factory, *digits)
        specs = _specs_of(layers)
        if not specs and timeouts is None and addresses is None:
            with Story(host, port, bool(keywords.get("ssl"))):
                return await super().create_connection(  # type: ignore[misc, no-any-return]
                    protocol_factory, host, port, **keywords
                )
        if specs and keywords.get("ssl"):
            raise ValueError("ssl and layers cannot be given together: put a tepal.TLS into layers")
        limits = NO_TIMEOUTS if timeouts is None else _timeouts(timeouts)
        if addresses is not None:
            check_word("addresses", addresses, ("linear", "race"))
            if keywords.get("happy_eyeballs_delay") is None and addresses == "race":
                keywords["happy_eyeballs_delay"] = 0.25
        pending = Pending(self, protocol_factory, specs, host, limits)
        with Story(host, port, bool(keywords.get("ssl")), limits):
            async with limited("the connection", limits.total):
                transport, _ = await super().create_connection(  # type: ignore[misc]
                    lambda: pending, host, port, **keywords
                )
        if pending.error is not None:
            raise pending.error
        return transport, transport.get_protocol()

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        layers: Iterable[Any] = (),
        **keywords: Any,
    ) -> Any:
        """As `asyncio.loop.create_server`; and with layers.

        Args:
            layers: recipes for layers, from the wire upward; not together with `ssl`.
        """
        specs = _specs_of(layers)
        if not specs:
            start = keywords.pop("start_serving", True)
            server = await super().create_server(  # type: ignore[misc]
                protocol_factory, host, port, start_serving=False, **keywords
            )
            if start:
                await _started(server)
            return server
        if keywords.get("ssl"):
            raise ValueError("ssl and layers cannot be given together: put a tepal.TLS into layers")
        start = keywords.pop("start_serving", True)
        server = await super().create_server(  # type: ignore[misc]
            lambda: Pending(self, protocol_factory),
            host,
            port,
            start_serving=False,
            **keywords,
        )
        server._listener_options = {"layers": specs}
        if start:
            await _started(server)
        return server

    async def create_unix_server(
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        start_serving: bool = True,
        **keywords: Any,
    ) -> Any:
        """As `asyncio.loop.create_unix_server`."""
        server = await super().create_unix_server(  # type: ignore[misc]
            protocol_factory, path, start_serving=False, **keywords
        )
        if start_serving:
            await _started(server)
        return server

    def _make_socket_transport(
        self, sock: socket.socket, protocol: Any, *args: Any, **kw: Any
    ) -> Any:
        transport = super()._make_socket_transport(sock, protocol, *args, **kw)  # type: ignore[misc]
        if isinstance(protocol, Pending):
            limits = protocol.limits
            transport._set_spans(limits.handshake, limits.closing)
            if protocol.specs:
                transport._specs = protocol.specs
                host = protocol.host
                transport._set_layers(
                    protocol.specs, protocol.server_side, host if isinstance(host, str) else None
                )
        return transport


def _timeouts(timeouts: object) -> Timeouts:
    if timeouts is None:
        return Timeouts()
    if not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts must be a tepal.Timeouts, not {kind_of(timeouts)}")
    return timeouts


def _local_address(local: Any) -> tuple[Any, int, int]:
    if not isinstance(local, tuple) or not 2 <= len(local) <= 4:
        raise TypeError(f"local must be (address, port), not {local!r}")
    import ipaddress  # Here, since it takes a millisecond.

    host, port = local[0], check_int("local's port", local[1], 0, 65535)
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise ValueError(f"local: {error}") from None
    scope = local[3] if len(local) == 4 else 0
    if address.version == 6 and address.scope_id:
        name = address.scope_id
        scope = int(name) if name.isdigit() else socket.if_nametoindex(name)
        address = ipaddress.IPv6Address(int(address))
    return address, port, scope
