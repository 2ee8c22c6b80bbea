"""Values about reaching a peer: phases, limits of time, retries, and what went wrong."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any

from ._values import Value, check_int, check_seconds, kind_of


class Phase(StrEnum):
    """Where a connection stands: `transport.phase`."""

    RESOLVE = "resolve"
    """Its name is being looked up, or it has not begun."""
    CONNECT = "connect"
    """Its addresses are being tried."""
    HANDSHAKE = "handshake"
    """The handshakes of its layers run."""
    ESTABLISHED = "established"
    """Bytes may flow."""
    CLOSING = "closing"
    """It was closed, and what was written is still leaving."""
    WAITING = "waiting"
    """It failed or was lost, and a new attempt begins after a wait."""
    CLOSED = "closed"
    """It is over."""


@dataclass(frozen=True, repr=False)
class Timeouts(Value):
    """How long each phase of a connection may take, in seconds. None: no limit.

    Args:
        total: one attempt as a whole, until the connection is established.
        dns: resolving the name. 15: three servers of 5 s each.
        connecting: connecting, all addresses together. 30: five SYNs of Linux's.
        handshake: each layer's handshake, from when the layer below it is ready.
        idle: quiet in both directions. The protocol is told, and the connection stays up.
        read: nothing came from the peer: the connection is lost.
        write: bytes wait and the peer took none: the connection is lost.
        session: the connection's whole life.
        closing: a close while the peer takes no byte.
    """

    total: float | None = None
    dns: float | None = 15
    connecting: float | None = 30
    handshake: float | None = 30
    idle: float | None = None
    read: float | None = None
    write: float | None = None
    session: float | None = None
    closing: float | None = 5

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None:
                check_seconds(name, value)

    def _seconds(self) -> tuple[float | None, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def _watch(self) -> bool:
        """Whether an established connection is limited."""
        return any(value is not None for value in (self.idle, self.read, self.write, self.session))


NO_TIMEOUTS = Timeouts(dns=None, connecting=None, handshake=None, closing=None)


@dataclass(frozen=True, repr=False)
class Backoff(Value):
    """How long to wait before each new attempt: from `first`, `factor` longer each time.

    Args:
        first: seconds before the first retry.
        factor: by how much each wait is longer than the one before, 1 or more.
        most: the longest wait, before the jitter.
        jitter: the part of the wait that is left to chance, 0 to 1: 0.5 means half to one and a
            half of it, so that many clients do not come back at the same moment.
        attempts: how many retries may follow one another without success. None: no limit.
        steady: how many seconds a connection must have stood to count as a success, after which
            the waits begin anew with `first`. 10: a peer that accepts and hangs up is tried less
            and less often, as one that refuses is.
    """

    first: float = 0.5
    factor: float = 2
    most: float = 60
    jitter: float = 0.5
    attempts: int | None = None
    steady: float = 10

    def __post_init__(self) -> None:
        for name in ("first", "most", "steady"):
            check_seconds(name, getattr(self, name))
        for name, least, most in (("factor", 1, 1e9), ("jitter", 0, 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, not {kind_of(value)}")
            if not least <= value <= most:
                raise ValueError(f"{name} must be from {least:g} to {most:g}, not {value!r}")
        if self.attempts is not None:
            check_int("attempts", self.attempts, 0, (1 << 32) - 1)

    def _numbers(self) -> tuple[float, float, float, float, int | None, float]:
        spread = (self.first, self.factor, self.most, self.jitter)
        return (*spread, self.attempts, self.steady)


@dataclass(frozen=True, repr=False)
class Attempt(Value):
    """One address that was tried, and what came of it."""

    address: Any
    """As `sock.getpeername()` would have it."""
    error: OSError | None = None
    """Why it did not serve; None if it connected, or if its turn never came."""
    elapsed: float | None = None
    """Seconds; None if its turn never came."""
    layer: str | None = None
    """The layer whose handshake failed, by its command name; None if it was the connect."""


@dataclass(frozen=True, repr=False)
class Problem(Value):
    """Why a peer was not reached, or was lost: enough to act on, and to try again."""

    phase: Phase
    """Where it happened."""
    kind: str
    """What happened: "timed_out", "name_not_found", "name_unknown", "refused", "unreachable",
    "not_permitted", "exhausted", "layer", "lost" or "failed"."""
    _: KW_ONLY
    layer: str | None = None
    """The layer that failed, by its command name, if one did."""
    host: str | None = None
    """As the caller wrote it."""
    port: int | None = None
    """None for Unix sockets."""
    address: Any = None
    """The address that was tried last, or that the connection led to."""
    local: Any = None
    """Where the socket was to be bound first, if that was asked for."""
    label: str | None = None
    """Whose credentials were used; never a secret."""
    cause: BaseException | None = None
    """What lies behind it."""
    attempts: tuple[Attempt, ...] = ()
    """Every address, in the order of trying."""
    elapsed: float = 0.0
    """Seconds since the begin of this attempt."""
    total: float | None = None
    """The limit of the whole attempt in seconds, if that is what was over, and not the phase's own."""
    attempt: int = 1
    """Which attempt it was, from 1 on since the last success."""
    text: str = ""
    """All of it in one line, for people."""

    def __str__(self) -> str:
        return self.text or f"{self.phase}: {self.kind}"
