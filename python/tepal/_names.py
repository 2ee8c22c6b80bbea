"""Names: `getaddrinfo` and `getnameinfo`, and addresses that need neither."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from asyncio import base_events
from typing import TYPE_CHECKING, Any

from ._resolver import Resolver, SystemResolver
from ._stories import resolving

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object

AddressInfo = tuple[int, int, int, str, Any]

# Programs and tests put their own functions in the place of these two, or their own module in the place
# where asyncio looks for them; then those are called.
_socket_getaddrinfo = socket.getaddrinfo
_socket_getnameinfo = socket.getnameinfo

PROTOCOLS = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


class Names(Base):
    """The part of `Loop` that resolves names, by tepal's resolver and without a thread."""

    def _init_names(self, resolver: Resolver | SystemResolver | None) -> None:
        self._system_resolver: SystemResolver | None = None
        if isinstance(resolver, SystemResolver):
            self._system_resolver = resolver
        elif isinstance(resolver, Resolver):
            self._use_resolver(*resolver._settings())
        elif resolver is not None:
            raise TypeError(
                f"resolver must be a tepal.Resolver or tepal.SystemResolver, not {resolver!r}"
            )

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """`socket.getaddrinfo`, without blocking the loop and without a thread.

        Raises:
            socket.gaierror: with the codes and words of the C library.
        """
        if base_events.socket.getaddrinfo is not _socket_getaddrinfo:
            return await self.run_in_executor(
                None, base_events.socket.getaddrinfo, host, port, family, type, proto, flags
            )
        if self._system_resolver is not None:
            return await self.run_in_executor(
                self._system_resolver.executor,
                socket.getaddrinfo,
                host,
                port,
                family,
                type,
                proto,
                flags,
            )
        sys.audit("socket.getaddrinfo", host, port, family, type, proto)
        if self.get_debug():
            return await self._getaddrinfo_in_debug(host, port, family, type, proto, flags)
        found = self._getaddrinfo(host, port, family, type, proto, flags)
        return found if isinstance(found, list) else await self._found(*found)

    async def _getaddrinfo_in_debug(self, *query: Any) -> list[AddressInfo]:
        """Logs the query, and a slow answer as information, in asyncio's words."""
        hints = zip(("family", "type", "proto", "flags"), query[2:], strict=True)
        shown = [f"{name}={value!r}" for name, value in hints if value]
        text = ", ".join([f"{query[0]}:{query[1]!r}", *shown])
        base_events.logger.debug("Get address info %s", text)
        began = self.time()
        found = self._getaddrinfo(*query)
        found = found if isinstance(found, list) else await self._found(*found)
        seconds = self.time() - began
        level = logging.INFO if seconds >= self.slow_callback_duration else logging.DEBUG
        base_events.logger.log(level, "Getting address info %s took %.3fms: %r", text, seconds * 1e3, found)
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """`socket.getnameinfo`, without blocking the loop and without a thread.

        Raises:
            socket.gaierror: with the codes and words of the C library.
        """
        if base_events.socket.getnameinfo is not _socket_getnameinfo:
            return await self.run_in_executor(None, base_events.socket.getnameinfo, sockaddr, flags)
        if self._system_resolver is not None:
            executor = self._system_resolver.executor
            return await self.run_in_executor(executor, socket.getnameinfo, sockaddr, flags)
        sys.audit("socket.getnameinfo", sockaddr)
        found = self._getnameinfo(sockaddr, flags)
        if isinstance(found[0], str):
            return found
        return await self._found(*found)

    async def _found(self, future: asyncio.Future[Any], lookup: int) -> Any:
        try:
            return await future
        finally:
            # Does nothing to one that has ended.
            self._lookup_cancel(lookup)

    async def _ensure_resolved(
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        loop: object = None,
    ) -> list[AddressInfo]:
        """The addresses of (host, port, ...); a literal needs no look-up."""
        host, port = address[:2]
        known = literal(host, port, family, type, proto, *address[2:])
        if known is not None:
            return [known]
        # By the public name, which a subclass may override.
        async with resolving(host):
            found: list[AddressInfo] = await self.getaddrinfo(
                host, port, family=family, type=type, proto=proto, flags=flags
            )
        if not found:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return found


def literal(
    host: Any,
    port: Any,
    family: int,
    type: int,
    proto: int,
    flowinfo: int = 0,
    scope: int = 0,
) -> AddressInfo | None:
    """The result of getaddrinfo for an address in digits; None if it must be asked."""
    if proto not in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP) or host is None:
        return None
    if type not in PROTOCOLS:
        return None
    proto = PROTOCOLS[socket.SocketKind(type)]
    if port is None or port in ("", b""):
        port = 0
    elif not isinstance(port, int) or isinstance(port, bool):
        try:
            port = int(port)
        except (ValueError, TypeError):
            # The name of a service.
            return None
    if isinstance(host, bytes):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return None
    if not isinstance(host, str) or "%" in host:
        # inet_pton knows no scopes.
        return None
    families = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,)
    for each in families:
        try:
            socket.inet_pton(each, host)
        except OSError:
            continue
        if each == socket.AF_INET6:
            return each, type, proto, "", (host, port, flowinfo, scope)
        return each, type, proto, "", (host, port)
    return None
