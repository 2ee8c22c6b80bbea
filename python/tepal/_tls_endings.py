"""How `ssl=` connections end, as records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ._errors import ALERTS, Closed, CloseKind
from ._reaching import Phase, Problem

try:
    import ssl
except ImportError:  # Python can be built without.
    ssl = None  # type: ignore[assignment]

_ALERT_NUMBERS = {name: number for number, name in ALERTS.items()}
# OpenSSL's reasons for alerts, such as SSLV3_ALERT_BAD_CERTIFICATE and TLSV1_UNRECOGNIZED_NAME.
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(ALERT_)?([A-Z_]+)")
_CLEAN = (CloseKind.LOCAL, CloseKind.ABORTED, CloseKind.PEER_EOF, CloseKind.PEER_CLOSED_LAYER)
# Of an end that is no more than one side's wish.
_MILD = (None, "local", "peer_closed_layer")
_TEXTS = {
    CloseKind.LOCAL: "closed by us",
    CloseKind.ABORTED: "aborted by us",
    CloseKind.PEER_EOF: "closed by the peer",
    CloseKind.PEER_CLOSED_LAYER: "closed by the peer's close_notify",
    CloseKind.TLS_TRUNCATED: "the bytes ended without TLS's close_notify",
    CloseKind.CLOSING_TIMED_OUT: "the peer did not answer the close in time",
    CloseKind.HANDSHAKE_FAILED: "the TLS handshake failed",
}
_FAULTS = {
    CloseKind.TLS_TRUNCATED: "remote",
    CloseKind.TLS_ALERT: "remote",
    CloseKind.HANDSHAKE_FAILED: "remote",
    CloseKind.HANDSHAKE_TIMED_OUT: "remote",
    CloseKind.CLOSING_TIMED_OUT: "remote",
    CloseKind.LAYER_FAILED: "remote",
}
_LAYER_KINDS = {
    CloseKind.TLS_TRUNCATED: "TlsTruncated",
    CloseKind.HANDSHAKE_TIMED_OUT: "HandshakeTimeout",
    CloseKind.CLOSING_TIMED_OUT: "CloseTimeout",
}


@dataclass(frozen=True)
class Failure:
    """What a record tells of an exception."""

    text: str
    layer_kind: str | None = None
    code: int | None = None


def failure_of(error: BaseException, *, in_handshake: bool = False) -> Failure:
    """What is to be kept of what ended a connection."""
    text = str(error) or type(error).__name__
    if ssl is not None and isinstance(error, ssl.SSLCertVerificationError):
        return Failure(text, "TlsCertificate")
    if ssl is not None and isinstance(error, ssl.SSLError):
        alert = _ALERT.match(str(getattr(error, "reason", None) or ""))
        if alert is not None:
            number = _ALERT_NUMBERS.get(alert[2].lower())
            if alert[1] or number is not None:
                return Failure(text, "TlsAlert", number)
        return Failure(text, "TlsHandshake" if in_handshake else "TlsProtocol")
    if in_handshake and isinstance(error, ConnectionResetError) and not error.args:
        return Failure("the peer ended the connection inside the TLS handshake", "EofInHandshake")
    return Failure(text)


def record_of(
    below: Closed | None,
    ending: str | None,
    error: BaseException | None,
    failure: Failure | None,
    unsent: int,
    unread: int,
) -> Closed:
    """The record of a TLS connection: what ended it here, else what ended the transport below."""
    if below is not None:
        unsent += below.unsent
        unread += below.unread
    if ending in _MILD and below is not None and (ending is None or not below.clean):
        # The kernel's end, or one that the user of the transport below has made.
        return Closed(
            below.kind,
            below.text,
            clean=below.clean,
            error=below.error,
            half=below.half,
            layer=below.layer,
            layer_kind=below.layer_kind,
            fault=below.fault,
            code=below.code,
            unsent=unsent,
            unread=unread,
            problem=below.problem,
        )
    if ending in _MILD and error is not None:
        kind = _kind_of(error)
        cause = error if isinstance(error, OSError) else None
        text = str(error) or type(error).__name__
        return Closed(kind, text, error=copy_of(cause), unsent=unsent, unread=unread)
    kind = CloseKind.LOCAL if ending is None else CloseKind(ending)
    failed = kind not in (*_CLEAN, CloseKind.FAILED, CloseKind.PROTOCOL_FAILED)
    layer_kind = _LAYER_KINDS.get(kind)
    code = None
    text = _TEXTS.get(kind) or (str(error) if error is not None else kind.replace("_", " "))
    if failure is not None and failed and kind is not CloseKind.TLS_TRUNCATED:
        text, code = failure.text, failure.code
        layer_kind = layer_kind or failure.layer_kind
        if failure.layer_kind == "TlsAlert":
            kind = CloseKind.TLS_ALERT
    kernel = None if below is None else below.error
    if kernel is None and kind is CloseKind.FAILED and isinstance(error, OSError):
        kernel = copy_of(error)
    return Closed(
        kind,
        text,
        clean=kind in _CLEAN,
        error=kernel,
        layer="tls" if failed else None,
        layer_kind=layer_kind,
        fault=_FAULTS.get(kind) if failed else None,
        code=code,
        unsent=unsent,
        unread=unread,
    )


def story_of(
    closed: Closed,
    phase: Phase,
    host: str | None,
    peer: Any,
    error: BaseException | None,
    elapsed: float,
) -> Problem:
    """Why a client's connection was not made, or was lost."""
    if closed.kind in (CloseKind.HANDSHAKE_TIMED_OUT, CloseKind.TIMED_OUT):
        kind = "timed_out"
    elif closed.layer is not None:
        kind = "layer"
    else:
        kind = "lost" if phase is Phase.ESTABLISHED else "failed"
    where = f" to {host}" if host else ""
    return Problem(
        phase,
        kind,
        layer=closed.layer,
        host=host,
        port=peer[1] if isinstance(peer, tuple) and len(peer) > 1 else None,
        address=peer,
        cause=copy_of(error) if isinstance(error, OSError) else None,
        elapsed=elapsed,
        text=f"{phase}{where}: {closed.text}",
    )


def copy_of(error: OSError | None) -> OSError | None:
    """The same without its traceback, which leads to all that the connection has used."""
    if error is None:
        return None
    copy = type(error)(*error.args)
    copy.__dict__.update(error.__dict__)
    for name in ("problem", "closed"):
        copy.__dict__.pop(name, None)
    return copy


def _kind_of(error: BaseException) -> CloseKind:
    if isinstance(error, ConnectionResetError):
        return CloseKind.RESET
    if isinstance(error, BrokenPipeError):
        return CloseKind.BROKEN_PIPE
    return CloseKind.TIMED_OUT if isinstance(error, TimeoutError) else CloseKind.FAILED
