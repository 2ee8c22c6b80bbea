"""TLS, with rustls or with the module `ssl`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from .. import _tepal
from .._values import check_bool, check_str, check_word, kind_of, secret
from .pem import PemSource, certificate_of, platform_roots, roots_of
from .spec import LayerSpec


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
        certificate = certificate_of(self.certificate, self.key)
        roots = None
        if self.ca is not None:
            roots = roots_of("ca", self.ca)
        elif self.server_side is not True and not accept_invalid:
            roots = platform_roots(needed=certificate is None)
        client_roots = None if self.client_ca is None else roots_of("client_ca", self.client_ca)
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
        self._make(_tepal.spec_openssl, self, self.server_hostname, self.server_side)
