"""Proxies, from both sides, and the PROXY protocol."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .. import _tepal
from .._values import check_int, check_port, check_str, kind_of, secret
from .spec import LayerSpec


@dataclass(frozen=True, repr=False)
class Socks5(LayerSpec):
    """A connection to `host:port` through a SOCKS5 proxy, which resolves the name (RFC 1928).

    Args:
        host: where to: a name or an address.
        port: 1 to 65535.
        username: for the proxy, with `password` (RFC 1929); sent only if it asks.
        password: 1 to 255 bytes, never shown.
    """

    host: str
    port: int
    _: KW_ONLY
    username: str | None = None
    password: str | None = secret()

    def __post_init__(self) -> None:
        check_str("host", self.host)
        check_port(self.port)
        credentials = _credentials(self.username, self.password)
        self._make(_tepal.spec_socks5, self.host, self.port, credentials)


@dataclass(frozen=True, repr=False)
class Socks4(LayerSpec):
    """A connection to `host:port` through a SOCKS4 proxy; names by SOCKS4a.

    Args:
        host: where to: a name or an IPv4 address.
        port: 1 to 65535.
        user_id: what the proxy may ask an identd about. It is no secret: anybody may read it.
    """

    host: str
    port: int
    _: KW_ONLY
    user_id: str = ""

    def __post_init__(self) -> None:
        check_str("host", self.host)
        check_port(self.port)
        check_str("user_id", self.user_id, empty=True)
        self._make(_tepal.spec_socks4, self.host, self.port, self.user_id)


@dataclass(frozen=True, repr=False)
class HTTPConnect(LayerSpec):
    """A tunnel to `host:port` through an HTTP proxy, by CONNECT (RFC 9110, section 9.3.6).

    Args:
        host: where to: a name or an address.
        port: 1 to 65535.
        username: for the proxy, with `password`, as Basic credentials with the first request.
        password: never shown.
        headers: more fields of the request, as pairs of str; their values are never shown.
    """

    host: str
    port: int
    _: KW_ONLY
    username: str | None = None
    password: str | None = secret()
    headers: tuple[tuple[str, str], ...] | Iterable[tuple[str, str]] = secret(())

    def __post_init__(self) -> None:
        check_str("host", self.host)
        check_port(self.port)
        credentials = _credentials(self.username, self.password)
        headers = self.headers.items() if isinstance(self.headers, dict) else self.headers
        if isinstance(headers, (str, bytes)) or not isinstance(headers, Iterable):
            raise TypeError(f"headers must be pairs of str, not {kind_of(headers)}")
        pairs = tuple(_header(header) for header in headers)
        self._set("headers", pairs)
        self._make(_tepal.spec_http_connect, self.host, self.port, credentials, list(pairs))


def _header(header: object) -> tuple[str, str]:
    if not isinstance(header, (tuple, list)) or len(header) != 2:
        raise TypeError("headers must hold pairs of a name and a value")
    name, value = header
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("headers must hold pairs of str")
    return (name, value)


def _credentials(username: object, password: object) -> tuple[str, str] | None:
    if username is None:
        if password is not None:
            raise ValueError("password is given without username")
        return None
    return (
        check_str("username", username),
        check_str("password", "" if password is None else password, empty=True),
    )


@dataclass(frozen=True, repr=False)
class ProxyHeader(LayerSpec):
    """The PROXY protocol's header: a client sends it, a server takes it.

    On a server it is mandatory: a connection that does not begin with one is closed, and so is one
    that does not come from a trusted address. What the header told is
    `transport.layer_info("proxy")`.

    Args:
        version: 1 or 2, for the header sent; both are taken.
        trusted: whom a server believes: addresses and networks such as "10.0.0.0/8".
    """

    _: KW_ONLY
    version: int = 2
    trusted: tuple[str, ...] | Iterable[Any] = ()

    def __post_init__(self) -> None:
        check_int("version", self.version, 1, 2)
        trusted = self.trusted
        if isinstance(trusted, (str, bytes)) or not isinstance(trusted, Iterable):
            raise TypeError(f"trusted must be a sequence of networks, not {kind_of(trusted)}")
        self._set("trusted", tuple(_network(network) for network in trusted))
        self._make(_tepal.spec_proxy_header, self.version, list(self.trusted))


def _network(network: object) -> str:
    known = (
        ipaddress.IPv4Address,
        ipaddress.IPv6Address,
        ipaddress.IPv4Network,
        ipaddress.IPv6Network,
    )
    if not isinstance(network, (str, *known)):
        raise TypeError(f"trusted must hold addresses and networks, not {kind_of(network)}")
    try:
        return str(ipaddress.ip_network(network))
    except ValueError as error:
        raise ValueError(f"trusted: {error}") from None


@dataclass(frozen=True, repr=False)
class SocksServer(LayerSpec):
    """A SOCKS proxy's server side: versions 5, 4 and 4a.

    The protocol hears by `layer_request("socks", request)` where a client wants to go, makes the
    connection, and says so with `transport.answer_request`. Then the layer leaves.

    Args:
        auth: `auth(username, password)` says whether they are good. It must be quick. With it,
            SOCKS4, which cannot carry a password, is refused.
    """

    _: KW_ONLY
    auth: Callable[[str, str], bool] | None = None

    def __post_init__(self) -> None:
        _check_callable("auth", self.auth)
        self._make(_tepal.spec_socks_server, self)


@dataclass(frozen=True, repr=False)
class HTTPConnectServer(LayerSpec):
    """An HTTP proxy's server side, for CONNECT; otherwise as `SocksServer`.

    Args:
        auth: `auth(username, password)` says whether they are good. It must be quick.
    """

    _: KW_ONLY
    auth: Callable[[str, str], bool] | None = None

    def __post_init__(self) -> None:
        _check_callable("auth", self.auth)
        self._make(_tepal.spec_http_connect_server, self)


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {kind_of(value)}")
