"""Records that native code fills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._errors import (
    Closed,
    CloseKind,
    ClosingTimeout,
    HandshakeError,
    HandshakeTimeout,
    LayerError,
    TLSAlert,
    TLSTruncated,
    exception_of,
)
from ._reaching import Attempt, Phase, Problem
from ._values import Value

__all__ = [
    "ProxyInfo",
    "ProxyRequest",
    "TLSInfo",
    "closed_record",
    "exception_of",
    "layer_exception",
    "problem_record",
]


@dataclass(frozen=True, repr=False)
class TLSInfo(Value):
    """What a TLS handshake found out."""

    version: str
    """"TLSv1.3" or "TLSv1.2"."""
    cipher: str
    """The cipher suite by its IANA name."""
    alpn: bytes | None
    """The protocol agreed on."""
    resumed: bool
    """Whether an earlier session was resumed."""
    server_name: str | None
    """On a client the host verified, on a server the one asked for."""
    peer_certificates: tuple[bytes, ...]
    """In DER, the peer's own first; empty if it sent none."""

    def __repr__(self) -> str:
        return (
            f"TLSInfo(version={self.version!r}, cipher={self.cipher!r}, alpn={self.alpn!r}, "
            f"resumed={self.resumed}, server_name={self.server_name!r}, "
            f"peer_certificates=<{len(self.peer_certificates)}>)"
        )


@dataclass(frozen=True, repr=False)
class ProxyInfo(Value):
    """What a PROXY header told."""

    version: int
    """Of the header: 1 or 2."""
    source: tuple[str, int] | None
    """Who connected to the proxy; None if it does not say: keep the socket's address."""
    destination: tuple[str, int] | None
    """And where to."""
    extensions: tuple[tuple[int, bytes], ...] = ()
    """Type and value of each, in order (version 2)."""


@dataclass(frozen=True, repr=False)
class ProxyRequest(Value):
    """Where a client of a proxy layer wants to go."""

    host: str
    """A name or an address, to be resolved by us."""
    port: int
    username: str | None = None
    """If the client gave one: verified if there is an `auth` function."""


def closed_record(kind: str, text: str, **fields: Any) -> Closed:
    """A `Closed`."""
    try:
        known = CloseKind(kind)
    except ValueError:
        known = CloseKind.FAILED
    return Closed(known, text, **fields)


def problem_record(
    phase: str,
    kind: str,
    text: str,
    *,
    attempts: list[tuple[Any, OSError | None, float | None, str | None]],
    **fields: Any,
) -> Problem:
    """A `Problem`."""
    tried = tuple(Attempt(*attempt) for attempt in attempts)
    return Problem(Phase(phase), kind, attempts=tried, text=text, **fields)


_BY_LAYER_KIND: dict[str, type[OSError]] = {
    "TlsTruncated": TLSTruncated,
    "TlsAlert": TLSAlert,
    "TlsCertificate": HandshakeError,
    "TlsHandshake": HandshakeError,
    "EofInHandshake": HandshakeError,
    "HandshakeTimeout": HandshakeTimeout,
    "CloseTimeout": ClosingTimeout,
}


def layer_exception(kind: str, text: str, layer: str) -> BaseException:
    """What a layer's error is to whoever asked it for something."""
    error = _BY_LAYER_KIND.get(kind, LayerError)(text)
    error.closed = Closed(  # type: ignore[attr-defined]
        CloseKind.LAYER_FAILED, text, layer=layer or None, layer_kind=kind
    )
    return error
