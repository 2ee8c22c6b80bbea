"""The `problem` of what `create_connection` raises: asyncio's own exceptions, with the story."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import Any

from ._reaching import NO_TIMEOUTS, Attempt, Phase, Problem, Timeouts
from ._tls_endings import copy_of

_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EMFILE: "exhausted",
    errno.ENFILE: "exhausted",
    errno.ENOBUFS: "exhausted",
    errno.ENOMEM: "exhausted",
    errno.EADDRNOTAVAIL: "exhausted",
    errno.ETIMEDOUT: "timed_out",
}

# Who writes down the addresses that are tried, also in the tasks of a race.
_current: ContextVar[Story | None] = ContextVar("tepal_story", default=None)


class Story:
    """Writes down what happens, and attaches it to the exception that leaves its block."""

    def __init__(self, host: Any, port: Any, has_ssl: bool, limits: Timeouts = NO_TIMEOUTS) -> None:
        self.host = host if isinstance(host, str) else None
        self.port = port if isinstance(port, int) else None
        self.has_ssl = has_ssl
        self.attempts: list[Attempt] = []
        self.limits = limits
        self.connects_until: float | None = None
        self.trying: Any = None
        # Those that lose a race, or win it when nobody waits any more, are nobody's.
        self.connected: list[socket.socket] = []

    def __enter__(self) -> Story:
        self.began = time.monotonic()
        self.token: Token[Story | None] = _current.set(self)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        _current.reset(self.token)
        self.close_all_but(None)
        told = isinstance(error, (OSError, ExceptionGroup))
        if told and getattr(error, "problem", None) is None:
            error.problem = self.problem(error)  # type: ignore[union-attr]

    def close_all_but(self, used: socket.socket | None) -> None:
        """Close what was connected and is not used."""
        while self.connected:
            sock = self.connected.pop()
            if sock is not used:
                sock.close()

    def problem(self, error: Any) -> Problem:
        """What an exception is the end of."""
        last = self.attempts[-1] if self.attempts else None
        connected = any(attempt.error is None for attempt in self.attempts)
        if isinstance(error, socket.gaierror):
            phase = Phase.RESOLVE
        elif connected or self.host is None:
            phase = Phase.HANDSHAKE
        else:
            phase = Phase.RESOLVE if last is None and self.trying is None else Phase.CONNECT
        layer = getattr(error, "layer", None)
        if layer is None and self.has_ssl and phase is Phase.HANDSHAKE:
            layer = "tls"
        kind, elapsed, total = self.kind(error, layer), time.monotonic() - self.began, self.limits.total
        if total is None or kind != "timed_out" or elapsed < total:
            total = None
        problem = Problem(
            phase,
            kind,
            layer=layer,
            host=self.host,
            port=self.port,
            address=self.trying if last is None else last.address,
            cause=copy_of(error) if isinstance(error, OSError) else None,
            attempts=tuple(self.attempts),
            elapsed=elapsed,
            total=total,
        )
        return replace(problem, text=_line(problem, error))

    def kind(self, error: Any, layer: str | None) -> str:
        """What happened, in one word."""
        if isinstance(error, socket.gaierror):
            unknown = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None))
            return "name_not_found" if error.errno in unknown else "name_unknown"
        if isinstance(error, TimeoutError):
            return "timed_out"
        if layer is not None:
            late = isinstance(error, ConnectionAbortedError) and "taking longer" in str(error)
            return "timed_out" if late else "layer"
        number = getattr(error, "errno", None)
        if number is None and self.attempts and self.attempts[-1].error is not None:
            # asyncio has made one of several, which have the numbers.
            number = self.attempts[-1].error.errno
        return _KINDS.get(number, "failed") if number is not None else "failed"


def _line(problem: Problem, error: Any) -> str:
    """What was tried, where, what each address said, how long it took: the line that `connect` has."""
    target = "the peer" if problem.address is None else _place(problem.address)
    if problem.host is not None:
        target = f"{problem.host} port {problem.port}"
    what = {
        Phase.RESOLVE: f"cannot find {target}",
        Phase.CONNECT: f"cannot connect to {target}",
        Phase.HANDSHAKE: f"cannot set up {problem.layer or 'the connection'} with {target}",
    }[problem.phase]
    said = "; ".join(map(_said, problem.attempts)) if problem.phase is Phase.CONNECT else ""
    whole = "" if problem.total is None else f", the whole may take {problem.total:g} s"
    return f"{what}: {said or _words(error)} (attempt 1, {problem.elapsed:.3f} s{whole})"


def _place(address: Any) -> str:
    if not isinstance(address, tuple):
        return str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _said(attempt: Attempt) -> str:
    where, error, elapsed = _place(attempt.address), attempt.error, attempt.elapsed
    if elapsed is None:
        return f"{where} was not tried"
    if error is None:
        return f"{where} connected after {elapsed:.3f} s"
    if isinstance(error, TimeoutError):
        return f"{where} gave no answer in {elapsed:.3f} s"
    if isinstance(error, (ConnectionRefusedError, ConnectionResetError)):
        return f"{where} said {_words(error)} after {elapsed:.3f} s"
    return f"{where} failed after {elapsed:.3f} s: {_words(error)}"


def _words(error: Any) -> str:
    # asyncio's own words name the address, which stands there already.
    number = getattr(error, "errno", None)
    if number is not None and str(getattr(error, "strerror", "")).startswith("Connect call failed"):
        return f"{os.strerror(number)} (os error {number})"
    return str(error)


@asynccontextmanager
async def limited(what: str, seconds: float | None) -> AsyncIterator[None]:
    """Limits its block, with a `TimeoutError` that says what took too long."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise _late(what, seconds) from None
        raise


def resolving(host: object) -> AbstractAsyncContextManager[None]:
    """Limits a look-up, if the connection that it is for has a limit."""
    story = _current.get()
    return limited(f"resolving {host}", None if story is None else story.limits.dns)


@asynccontextmanager
async def connecting(exceptions: list[Any], address: Any) -> AsyncIterator[None]:
    """Writes down one address that is tried, and limits all of them together."""
    story = _current.get()
    with Telling(address):
        seconds = None if story is None else story.limits.connecting
        if story is None or seconds is None:
            yield
            return
        loop = asyncio.get_running_loop()
        if story.connects_until is None:
            story.connects_until = loop.time() + seconds
        limit = asyncio.timeout_at(story.connects_until)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            error = _late("connecting", seconds)
            # asyncio raises what it finds there.
            exceptions.append([error])
            raise error from None


def _late(what: str, seconds: float | None) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"{what} took longer than {seconds} seconds")


class Telling:
    """Writes down one address that is tried."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def __enter__(self) -> None:
        self.began = time.monotonic()
        story = _current.get()
        if story is not None:
            story.trying = self.address

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        story = _current.get()
        if isinstance(error, asyncio.CancelledError):
            # The time was over, or somebody gave it up, who will not ask.
            error = TimeoutError(errno.ETIMEDOUT, "no answer in time")
        if story is None or (error is not None and not isinstance(error, OSError)):
            return
        elapsed = time.monotonic() - self.began
        story.attempts.append(Attempt(self.address, copy_of(error), elapsed))


def connected(sock: socket.socket) -> None:
    """A connection that was made, whether it will be used or not."""
    story = _current.get()
    if story is not None:
        story.connected.append(sock)


def tells_no_more(used: socket.socket) -> bool:
    """The connection is there: its callbacks get a context without the story. Whether it is of it."""
    story = _current.get()
    is_ours = story is not None and used in story.connected
    if story is not None:
        story.close_all_but(used)
    _current.set(None)
    return is_ours
