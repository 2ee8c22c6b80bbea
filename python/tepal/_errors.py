"""How connections end: the record, and the exceptions that it becomes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum

from ._reaching import Problem
from ._values import Value


class CloseKind(StrEnum):
    """What ended a connection."""

    LOCAL = "local"
    """We closed it, and everything written had been given to the kernel."""
    ABORTED = "aborted"
    """We aborted it."""
    PEER_EOF = "peer_eof"
    """The peer ended its direction (FIN), and then we closed."""
    PEER_CLOSED_LAYER = "peer_closed_layer"
    """The peer ended its direction inside a layer (TLS: close_notify), and then we closed."""
    RESET = "reset"
    """The peer or its host reset it."""
    BROKEN_PIPE = "broken_pipe"
    """The peer no longer reads."""
    TIMED_OUT = "timed_out"
    """The kernel gave the peer up."""
    FAILED = "failed"
    """Another error of the kernel."""
    RESOLVE_FAILED = "resolve_failed"
    """Its peer's name has no address, or could not be looked up."""
    RESOLVE_TIMED_OUT = "resolve_timed_out"
    """Its peer's name was not looked up in time."""
    CONNECT_FAILED = "connect_failed"
    """It was never made."""
    CONNECT_TIMED_OUT = "connect_timed_out"
    """It was not made in time."""
    CLOSING_TIMED_OUT = "closing_timed_out"
    """We closed it, and the peer took none of what was left, or did not answer a layer's close."""
    TLS_TRUNCATED = "tls_truncated"
    """The bytes ended without TLS's close_notify, so somebody may have cut them off."""
    TLS_ALERT = "tls_alert"
    """The peer sent a fatal TLS alert."""
    HANDSHAKE_FAILED = "handshake_failed"
    """A layer could not be built, or its handshake failed."""
    HANDSHAKE_TIMED_OUT = "handshake_timed_out"
    """A layer's handshake did not end in time."""
    RESIDUAL_REJECTED = "residual_rejected"
    """Bytes had come before a layer was pushed that was to reject them (STARTTLS injection)."""
    LAYER_FAILED = "layer_failed"
    """A layer failed after its handshake."""
    READ_TIMED_OUT = "read_timed_out"
    """Nothing came from the peer for too long."""
    WRITE_TIMED_OUT = "write_timed_out"
    """The peer took nothing for too long."""
    SESSION_TIMED_OUT = "session_timed_out"
    """It had lived as long as it may."""
    RECONNECTING = "reconnecting"
    """We gave it up to connect anew."""
    PROTOCOL_FAILED = "protocol_failed"
    """A callback of the protocol raised."""
    WRONG_COUNT = "wrong_count"
    """The protocol claimed to have used more bytes than it was given."""
    INPUT_STALLED = "input_stalled"
    """The input buffer was at its limit, and the protocol used none of it."""


@dataclass(frozen=True, repr=False)
class Closed(Value):
    """How a connection ended: the whole record, `transport.closed`."""

    kind: CloseKind
    """What ended it. For programs."""
    text: str
    """The same in words. For people."""
    _: KW_ONLY
    clean: bool = False
    """Whether the end was orderly: ours, the peer's FIN or close_notify, or an abort of ours."""
    error: OSError | None = None
    """The kernel's error, if one ended it."""
    half: str | None = None
    """"read", "write" or "both": the direction that failed, where one did."""
    layer: str | None = None
    """The command name of the layer that ended it, if one did."""
    layer_kind: str | None = None
    """What that layer says: "TlsAlert", "FrameTooLong"."""
    fault: str | None = None
    """Whose fault that was: "local", "remote", "os" or "misuse"."""
    code: int | None = None
    """A number that goes with it: of a TLS alert, an HTTP status, a SOCKS reply."""
    unsent: int = 0
    """Bytes accepted by `write` that never reached the kernel."""
    unread: int = 0
    """Bytes received that the protocol did not take."""
    problem: Problem | None = None
    """The story of an outbound connection that was not made, or was lost."""

    def __str__(self) -> str:
        return self.text


class ConnectError(OSError):
    """A peer could not be reached. `problem` tells all; `errno` is the kernel's, if it had one."""

    problem: Problem | None = None
    closed: Closed | None = None


class LayerError(ConnectionError):
    """A layer ended the connection: `closed.layer` is its name, `closed.fault` whose fault it was.

    It is no error of the kernel's, and has no errno; those are other subclasses of `OSError`.
    """

    problem: Problem | None = None
    closed: Closed | None = None

    @property
    def layer(self) -> str | None:
        """The layer's command name."""
        return None if self.closed is None else self.closed.layer


class HandshakeError(LayerError):
    """A layer's handshake failed, on our side or the peer's."""


class HandshakeTimeout(HandshakeError, TimeoutError):
    """A layer's handshake did not end in time."""


class TLSTruncated(LayerError):
    """The bytes ended without TLS's close_notify: somebody may have cut them off."""


class TLSAlert(LayerError):
    """The peer sent a fatal TLS alert: `number`, and its name in `description`."""

    @property
    def number(self) -> int | None:
        """The alert's number (RFC 8446, section 6)."""
        return None if self.closed is None else self.closed.code

    @property
    def description(self) -> str:
        """The alert's name, such as "certificate_required"."""
        number = self.number
        return ALERTS.get(number, f"alert {number}") if number is not None else "alert"


class ResidualRejected(LayerError):
    """Bytes had come in before a layer was pushed that was to reject them."""


class ClosingTimeout(ConnectionError, TimeoutError):
    """A close did not end in time: bytes were not taken, or a layer's peer did not answer."""

    closed: Closed | None = None


class InputStalled(ConnectionError):
    """The input buffer is at its limit, and the protocol uses none of it."""

    closed: Closed | None = None


class QuietTimeout(ConnectionError, TimeoutError):
    """Nothing came, or nothing was taken, for too long; or the connection's time was over."""

    closed: Closed | None = None


ALERTS = {
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}

_BY_KIND: dict[CloseKind, type[OSError]] = {
    CloseKind.TLS_TRUNCATED: TLSTruncated,
    CloseKind.TLS_ALERT: TLSAlert,
    CloseKind.HANDSHAKE_FAILED: HandshakeError,
    CloseKind.HANDSHAKE_TIMED_OUT: HandshakeTimeout,
    CloseKind.RESIDUAL_REJECTED: ResidualRejected,
    CloseKind.LAYER_FAILED: LayerError,
    CloseKind.CLOSING_TIMED_OUT: ClosingTimeout,
    CloseKind.INPUT_STALLED: InputStalled,
    CloseKind.READ_TIMED_OUT: QuietTimeout,
    CloseKind.WRITE_TIMED_OUT: QuietTimeout,
    CloseKind.SESSION_TIMED_OUT: QuietTimeout,
    CloseKind.CONNECT_FAILED: ConnectError,
    CloseKind.CONNECT_TIMED_OUT: ConnectError,
    CloseKind.RESOLVE_FAILED: ConnectError,
    CloseKind.RESOLVE_TIMED_OUT: ConnectError,
}


def exception_of(closed: Closed, raised: BaseException | None = None) -> BaseException | None:
    """What `connection_lost` is told of an end: None for a clean one.

    `raised`: by a layer written in Python, which ended the connection.
    """
    if closed.clean:
        return None
    if isinstance(raised, OSError):
        # It says itself what it is: a LayerError, an ssl.SSLError.
        raised.closed = closed  # type: ignore[attr-defined]
        return raised
    cls = _BY_KIND.get(closed.kind)
    error: BaseException
    if cls is None:
        if closed.error is not None:
            # As the kernel said it, in the class of its errno.
            error = type(closed.error)(*closed.error.args)
        elif closed.kind is CloseKind.WRONG_COUNT:
            error = ValueError(closed.text)
        else:
            error = ConnectionError(closed.text)
    elif cls is ConnectError:
        error = connect_error(closed)
    else:
        error = cls(closed.text)
    error.closed = closed  # type: ignore[attr-defined]
    error.__cause__ = raised or error.__cause__
    return error


def connect_error(closed: Closed) -> ConnectError:
    """What `established()` raises."""
    number = None if closed.error is None else closed.error.errno
    error = ConnectError(closed.text) if number is None else ConnectError(number, closed.text)
    error.problem = closed.problem
    error.closed = closed
    if closed.error is not None:
        error.__cause__ = closed.error
    return error
