"""Recipes for layers: immutable values, of which each connection attempt builds fresh layers.

Arguments are checked when the value is made, and files are read then. What belongs to a recipe,
such as the configuration and the sessions of `TLS` or the debt of a `RateGroup`, is shared by all
connections that use the value.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from . import _tepal
from ._values import (
    Value,
    check_bool,
    check_bytes,
    check_int,
    check_port,
    check_seconds,
    check_str,
    check_word,
    kind_of,
    secret,
)

PemSource = str | os.PathLike[str] | bytes


class LayerSpec(Value):
    """The base of all recipes for layers."""

    _native: _tepal.Spec

    @property
    def name(self) -> str:
        """The command name of the layers it builds: "tls", "socks5", "lines"."""
        return self._native.name

    def _make(self, make: Callable[..., _tepal.Spec], *arguments: Any) -> None:
        # What the arguments' checks have let through and the layer does not take.
        try:
            native = make(*arguments)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        self._set("_native", native)


class Specs(list[_tepal.Spec]):
    """Native recipes from the wire upward, and the values that they belong to.

    Native code refers weakly to recipes that are Python: whoever uses them keeps this.
    """

    values: tuple[Any, ...] = ()


def specs_of(layers: Iterable[Any]) -> Specs:
    """The native recipes of a `layers=` argument, from the wire upward.

    Raises:
        TypeError: it is no iterable of recipes.
    """
    if isinstance(layers, (LayerSpec, str, bytes)):
        raise TypeError(f"layers must be a sequence of layer specs, not {kind_of(layers)}")
    try:
        found = list(layers)
    except TypeError:
        text = f"layers must be a sequence of layer specs, not {kind_of(layers)}"
        raise TypeError(text) from None
    specs = Specs(spec_of(layer, f"layers[{index}]") for index, layer in enumerate(found))
    specs.values = tuple(found)
    return specs


def spec_of(layer: Any, name: str = "spec") -> _tepal.Spec:
    """The native recipe of one value."""
    if isinstance(layer, LayerSpec):
        if isinstance(layer, Detect) and not layer.choices:
            raise ValueError(f"{name}: a Detect needs something to choose from")
        return layer._native
    recipe = getattr(layer, "_layer_spec", None)
    if recipe is not None:
        native = recipe()
        if isinstance(native, _tepal.Spec):
            return native
    raise TypeError(f"{name} must be a layer spec such as tepal.TLS(), not {layer!r}")


@dataclass(frozen=True, repr=False)
class TLS(LayerSpec):
    """TLS 1.2 and 1.3. Client or server by the direction of the connection.

    A client verifies the peer's certificate and that it is for `server_hostname`, by default the
    nearest target below: the host of the proxy layer underneath, else the one connected to.

    Args:
        server_hostname: the host a client asks for and verifies.
        ca: whom a client trusts: a PEM file's path, or its bytes. None: what the platform trusts
            (SSL_CERT_FILE and SSL_CERT_DIR, else the system's own file).
        certificate: our certificate chain, own first: a PEM file's path, or its bytes. A server
            needs one.
        key: its private key, as PKCS#8, PKCS#1 or SEC1. None: it is in `certificate`'s PEM.
        alpn: application protocols, the preferred one first: str or bytes.
        client_ca: a server's demand for a certificate of one of these authorities.
        resume: whether sessions are kept for later connections.
        keylog: a file to which secrets are appended, for Wireshark.
        server_side: which side we are, whoever connected. None: by the direction.
        close: how the layer ends when the connection is closed. "wait" says close_notify and waits
            for the peer's; "notify" says it and leaves; "none" says nothing, and the peer will take
            it for a truncation. `pop_layer` always waits.
        peer_close: what the peer's close_notify means: "end" is the end of input
            (`eof_received`); with "pop" the layer leaves and TCP goes on.
        danger_accept_invalid_certificates: believe anybody. For tests.

    Raises:
        OSError: a file cannot be read; `filename` says which.
        ValueError: a PEM cannot be parsed, key and certificate do not belong together, or an
            argument is out of range.
        TypeError: an argument has the wrong type.
    """

    server_hostname: str | None = None
    _: KW_ONLY
    ca: PemSource | None = None
    certificate: PemSource | None = None
    key: PemSource | None = secret()
    alpn: tuple[str | bytes, ...] | Iterable[str | bytes] = ()
    client_ca: PemSource | None = None
    resume: bool = True
    keylog: str | os.PathLike[str] | None = None
    server_side: bool | None = None
    close: Literal["wait", "notify", "none"] = "wait"
    peer_close: Literal["end", "pop"] = "end"
    danger_accept_invalid_certificates: bool = False

    def __post_init__(self) -> None:
        if self.server_hostname is not None:
            check_str("server_hostname", self.server_hostname)
        check_bool("resume", self.resume)
        accept_invalid = self.danger_accept_invalid_certificates
        check_bool("danger_accept_invalid_certificates", accept_invalid)
        if self.server_side is not None:
            check_bool("server_side", self.server_side)
        check_word("close", self.close, ("wait", "notify", "none"))
        check_word("peer_close", self.peer_close, ("end", "pop"))
        self._set("alpn", _protocols(self.alpn))
        for name in ("ca", "certificate", "key", "client_ca"):
            source = getattr(self, name)
            if isinstance(source, bytearray):
                # It could change, and has no hash.
                self._set(name, bytes(source))
        keylog = None if self.keylog is None else _log_path(self.keylog)
        if self.server_side is True and self.certificate is None:
            raise ValueError("certificate is needed with server_side=True")
        if self.key is not None and self.certificate is None:
            raise ValueError("key is given without certificate")
        certificate = _certificate(self.certificate, self.key)
        roots = None
        if self.ca is not None:
            roots = _roots("ca", self.ca)
        elif self.server_side is not True and not accept_invalid:
            roots = _platform_roots(needed=certificate is None)
        client_roots = None if self.client_ca is None else _roots("client_ca", self.client_ca)
        self._make(
            _tepal.spec_tls,
            self.server_hostname,
            roots,
            certificate,
            [name.encode() if isinstance(name, str) else name for name in self.alpn],
            client_roots,
            self.resume,
            keylog,
            self.server_side,
            self.close,
            self.peer_close,
            accept_invalid,
        )

    def _shown(self, name: str, value: object) -> str:
        # A certificate's PEM may hold its key.
        if isinstance(value, bytes) and name in ("ca", "certificate", "client_ca"):
            return f"<{len(value)} bytes of PEM>"
        return repr(value)


def _protocols(alpn: object) -> tuple[str | bytes, ...]:
    if isinstance(alpn, (str, bytes)) or not isinstance(alpn, Iterable):
        raise TypeError(f"alpn must be a sequence of protocol names, not {kind_of(alpn)}")
    names = tuple(alpn)
    for name in names:
        if not isinstance(name, (str, bytes)):
            raise TypeError(f"alpn must hold str or bytes, not {kind_of(name)}")
        if not 1 <= len(name.encode() if isinstance(name, str) else name) <= 255:
            raise ValueError(f"alpn must hold names of 1 to 255 bytes, not {name!r}")
    return names


def _log_path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"keylog must be a path, not {kind_of(path)}")
    # Made here, so that an error is Python's own; only the owner may read it.
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    return os.fsdecode(path)


def _platform_roots(needed: bool) -> _tepal.Roots | None:
    try:
        return _tepal.Roots.of_platform()
    except FileNotFoundError:
        # A server can do without; a client finds nobody to trust.
        if needed:
            raise
        return None


def _pem(name: str, source: object) -> bytes:
    if isinstance(source, (bytes, bytearray)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or PEM bytes, not {kind_of(source)}")
    return Path(os.fsdecode(source)).read_bytes()


def _named(name: str, source: object) -> str:
    if isinstance(source, (bytes, bytearray)):
        return name
    return f"{name} ({os.fsdecode(source)!r})"  # type: ignore[arg-type]


def _roots(name: str, source: PemSource) -> _tepal.Roots:
    pem = _pem(name, source)
    try:
        return _tepal.Roots(pem)
    except ValueError as error:
        raise ValueError(f"{_named(name, source)}: {error}") from None


def _certificate(chain: PemSource | None, key: PemSource | None) -> _tepal.Certificate | None:
    if chain is None:
        return None
    chain_pem = _pem("certificate", chain)
    key_pem = chain_pem if key is None else _pem("key", key)
    try:
        return _tepal.Certificate(chain_pem, key_pem)
    except ValueError as error:
        where = _named("certificate", chain)
        if key is not None:
            where += " with " + _named("key", key)
        raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True, repr=False)
class OpenSSL(LayerSpec):
    """TLS with an `ssl.SSLContext`, whose settings and callbacks all hold; `TLS` is faster.

    Args:
        context: the context. A client's layer verifies what the context says.
        server_hostname: the host a client asks for and verifies; by default the nearest target
            below: the host of the proxy layer underneath, else the one connected to.
        server_side: which side we are, whoever connected. None: by the direction.

    Raises:
        TypeError: an argument has the wrong type.
        ImportError: this Python was built without `ssl`.
    """

    context: Any
    server_hostname: str | None = None
    _: KW_ONLY
    server_side: bool | None = None

    def __post_init__(self) -> None:
        import ssl

        if not isinstance(self.context, ssl.SSLContext):
            raise TypeError(f"context must be an ssl.SSLContext, not {kind_of(self.context)}")
        if self.server_hostname is not None:
            check_str("server_hostname", self.server_hostname)
        if self.server_side is not None:
            check_bool("server_side", self.server_side)
        self._make(_tepal.spec_openssl, self.context, self.server_hostname, self.server_side)


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


class RateGroup:
    """A limit that several connections share: give it to their `RateLimit`.

    Args:
        read: bytes per second that all of them together may read. None: no limit.
        write: and write.
    """

    __slots__ = ("__weakref__", "_native", "_read", "_write")

    def __init__(self, *, read: int | None = None, write: int | None = None) -> None:
        self._read = _rate("read", read)
        self._write = _rate("write", write)
        self._native = _tepal.RateGroup(self._read, self._write)

    @property
    def read(self) -> int | None:
        """Bytes per second."""
        return self._read

    @property
    def write(self) -> int | None:
        """Bytes per second."""
        return self._write

    def __repr__(self) -> str:
        return f"RateGroup(read={self._read}, write={self._write})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy would be another group, and the limit no limit.
        raise TypeError("a RateGroup cannot be pickled: it is shared within one process")


def _rate(name: str, rate: object) -> int | None:
    if rate is None:
        return None
    if isinstance(rate, float) and rate >= 1 and rate < 1 << 63:
        return round(rate)
    return check_int(name, rate, 1, (1 << 63) - 1)


@dataclass(frozen=True, repr=False)
class RateLimit(LayerSpec):
    """Holds the rate of a connection, per direction, by waiting: nothing is dropped or reordered.

    Args:
        read: bytes per second. None: no limit.
        write: bytes per second.
        burst: bytes that may pass at once after a quiet time. None: what 1/20 s of the rate is.
        group: a limit shared with other connections.
    """

    _: KW_ONLY
    read: int | None = None
    write: int | None = None
    burst: int | None = None
    group: RateGroup | None = None

    def __post_init__(self) -> None:
        for name in ("read", "write", "burst"):
            self._set(name, _rate(name, getattr(self, name)))
        if self.group is not None and not isinstance(self.group, RateGroup):
            raise TypeError(f"group must be a RateGroup, not {kind_of(self.group)}")
        native = None if self.group is None else self.group._native
        self._make(_tepal.spec_rate, self.read, self.write, self.burst, native)


@dataclass(frozen=True, repr=False)
class Lines(LayerSpec):
    r"""Lines: one `write` is one line, one `data_received` is one line, without its end.

    Args:
        delimiter: what ends a line, such as b"\r\n".
        max_length: the longest line in bytes without its end. A peer's longer one fails the
            connection, before it is whole.
    """

    _: KW_ONLY
    delimiter: bytes = b"\n"
    max_length: int = 65536

    def __post_init__(self) -> None:
        self._set("delimiter", check_bytes("delimiter", self.delimiter))
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_lines, self.delimiter, self.max_length)


@dataclass(frozen=True, repr=False)
class Delimiter(LayerSpec):
    """Frames that end with any delimiter: `Lines` under the name "delimiter"."""

    delimiter: bytes
    _: KW_ONLY
    max_length: int = 65536

    def __post_init__(self) -> None:
        self._set("delimiter", check_bytes("delimiter", self.delimiter))
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_delimiter, self.delimiter, self.max_length)


# A link that never has room for one frame would never pass it on.
_LONGEST = (1 << 31) - 1


@dataclass(frozen=True, repr=False)
class LengthPrefixed(LayerSpec):
    """Frames behind their length: one `write` is one, one `data_received` is one.

    Args:
        width: bytes of the length, 1 to 8.
        byteorder: "big" or "little".
        max_length: the longest frame. A peer's longer one fails the connection at its length.
    """

    _: KW_ONLY
    width: int = 4
    byteorder: Literal["big", "little"] = "big"
    max_length: int = 16 << 20

    def __post_init__(self) -> None:
        check_int("width", self.width, 1, 8)
        check_word("byteorder", self.byteorder, ("big", "little"))
        check_int("max_length", self.max_length, 1, _LONGEST)
        big = self.byteorder == "big"
        self._make(_tepal.spec_length_prefixed, self.width, big, self.max_length)


@dataclass(frozen=True, repr=False)
class Netstrings(LayerSpec):
    """Netstrings (`3:abc,`): one `write` is one, one `data_received` is one.

    Args:
        max_length: the longest frame. A peer's longer one fails the connection at its length.
    """

    _: KW_ONLY
    max_length: int = 1 << 20

    def __post_init__(self) -> None:
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_netstrings, self.max_length)


@dataclass(frozen=True, repr=False)
class Idle(LayerSpec):
    """Tells the protocol, by `layer_idle("idle")`, that nothing has passed for a while.

    Where it stands decides what counts: below TLS every record does, above lines only whole ones.

    Args:
        after: seconds. It is told once for each quiet time, and the connection stays up.
    """

    after: float

    def __post_init__(self) -> None:
        if check_seconds("after", self.after) == 0:
            raise ValueError("after must be more than 0 seconds")
        self._make(_tepal.spec_idle, float(self.after))


@dataclass(frozen=True, repr=False)
class DetectChoice(Value):
    """One choice of a `Detect`; its methods make them."""

    name: str
    test: Literal["tls", "sni", "alpn", "prefix", "otherwise"]
    value: bytes
    layers: tuple[LayerSpec, ...]


@dataclass(frozen=True, repr=False)
class Detect(LayerSpec):
    """Looks at the first bytes that a client sends, and becomes the stack that fits them.

    So one port serves TLS and plain text, or several hosts. The bytes are not taken: the chosen
    stack sees all of them, 16 KiB at the most are looked at. Choices are tried in the order given;
    each method returns a new value with one more. If none fits, the connection fails with
    `HandshakeError`. The name of the one taken is `transport.layer_info("detect")`.

        tepal.Detect().tls("secure", [tepal.TLS(certificate="c.pem")]).otherwise("plain")
    """

    choices: tuple[DetectChoice, ...] = ()

    def __post_init__(self) -> None:
        choices = tuple(self.choices)
        for choice in choices:
            if not isinstance(choice, DetectChoice):
                raise TypeError("choices are made by the methods of Detect")
        self._set("choices", choices)
        native = [(c.name, c.test, c.value, specs_of(c.layers)) for c in choices]
        self._make(_tepal.spec_detect, native)

    def tls(self, name: str, layers: Iterable[Any]) -> Detect:
        """For any TLS ClientHello."""
        return self._more(name, "tls", b"", layers)

    def sni(self, name: str, host: str, layers: Iterable[Any]) -> Detect:
        """For a ClientHello that asks for this host, or, as "*.example.org", a direct subdomain."""
        return self._more(name, "sni", check_str("host", host).encode(), layers)

    def alpn(self, name: str, protocol: bytes | str, layers: Iterable[Any]) -> Detect:
        """For a ClientHello that offers this protocol."""
        value = protocol.encode() if isinstance(protocol, str) else protocol
        return self._more(name, "alpn", check_bytes("protocol", value), layers)

    def prefix(self, name: str, prefix: bytes, layers: Iterable[Any]) -> Detect:
        """For connections that begin with these bytes."""
        return self._more(name, "prefix", check_bytes("prefix", prefix), layers)

    def otherwise(self, name: str, layers: Iterable[Any] = ()) -> Detect:
        """For all others."""
        return self._more(name, "otherwise", b"", layers)

    def _more(self, name: str, test: Any, value: bytes, layers: Iterable[Any]) -> Detect:
        check_str("name", name)
        stack = specs_of(layers).values
        return Detect((*self.choices, DetectChoice(name, test, value, stack)))


@dataclass(frozen=True, repr=False)
class Tap(LayerSpec):
    """Records what passes, in both directions, and changes nothing.

    Args:
        sink: called with encoded bytes, in order. It should be quick. What it raises is printed
            (`sys.unraisablehook`) and costs nothing else.
        format: "text" for people, "pcapng" for Wireshark.
    """

    sink: Callable[[bytes], object]
    _: KW_ONLY
    format: Literal["text", "pcapng"] = "text"

    def __post_init__(self) -> None:
        if not callable(self.sink):
            raise TypeError(f"sink must be callable, not {kind_of(self.sink)}")
        check_word("format", self.format, ("text", "pcapng"))
        self._make(_tepal.spec_tap, self, self.format == "pcapng")


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
