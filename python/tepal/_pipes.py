"""Transports over one end of a pipe, a socket or a terminal: `connect_read_pipe` and its twin."""

from __future__ import annotations

import asyncio
import contextvars
import fcntl
import os
import stat
import warnings
from asyncio import transports
from collections.abc import Iterable
from typing import Any

from ._listed import Listed
from ._tepal import StreamTransport as NativeStream


class _Absent:
    """A method of the native class that asyncio's transport of this kind does not have."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}")


class _PipeTransport(Listed, NativeStream):
    _protocol_paused = False
    _fd: int | None = None

    def __init__(self) -> None:
        self._extra: dict[str, Any] = {}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the transport: "pipe", the file object it was made of."""
        return self._extra.get(name, default)

    def _words(self) -> list[str]:
        words = [type(self).__name__]
        is_open = self._was_opened and not self._lost
        if not is_open:
            words.append("closed")
        elif self.is_closing() and not self._loop.is_closed():
            words.append("closing")
        return [*words, f"fd={self._fd}", "open" if is_open else "closed"]

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._was_opened and not self._lost:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._drop_socket()


class _ReadPipeInterface(asyncio.ReadTransport):
    """What `isinstance` sees. asyncio's classes have slots, which a native base cannot join."""


class ReadPipeTransport(_PipeTransport):
    """Reads from a pipe on tepal's loop. Made by `connect_read_pipe` and for subprocesses."""

    __class__ = property(lambda self: _ReadPipeInterface)  # type: ignore[assignment]

    def __repr__(self) -> str:
        words = self._words()
        if words[-1] == "open" and not self._loop.is_closed():
            words[-1] = "polling" if self.is_reading() else "idle"
        return f"<{' '.join(words)}>"


class _WritePipeInterface(transports._FlowControlMixin, asyncio.WriteTransport):  # type: ignore[name-defined, misc]
    """What `isinstance` sees."""


class WritePipeTransport(_PipeTransport):
    """Writes to a pipe on tepal's loop. Made by `connect_write_pipe` and for subprocesses."""

    __class__ = property(lambda self: _WritePipeInterface)  # type: ignore[assignment]

    # asyncio's mixin of flow control is of a transport in both directions.
    is_reading = asyncio.Transport.is_reading
    pause_reading = asyncio.Transport.pause_reading
    resume_reading = asyncio.Transport.resume_reading

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send each of an iterable of bytes-like objects, in one piece."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Close once everything written has left: that is how a pipe tells its end."""
        self.close()

    def __repr__(self) -> str:
        words = self._words()
        if words[-1] == "open" and not self._loop.is_closed():
            waiting = self.get_write_buffer_size()
            words[-1:] = ["polling" if waiting else "idle", f"bufsize={waiting}"]
        return f"<{' '.join(words)}>"


for _name in (
    "write",
    "writelines",
    "write_eof",
    "can_write_eof",
    "abort",
    "get_write_buffer_size",
    "get_write_buffer_limits",
    "set_write_buffer_limits",
):
    setattr(ReadPipeTransport, _name, _Absent(_name))


class _Shared:
    """A descriptor of our own for a pipe whose number may have other uses in the loop.

    A terminal or a socket is read and written, by two transports or by add_writer, and epoll knows
    each number once.
    """

    def __init__(self, pipe: Any, fd: int) -> None:
        self._pipe = pipe
        self._fd = os.dup(fd)

    def fileno(self) -> int:
        return self._fd

    def drop(self) -> None:
        """Close what is ours alone."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        try:
            self.drop()
        finally:
            self._pipe.close()


def open_read_pipe(
    loop: Any,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
) -> ReadPipeTransport:
    """A transport over the read end of a pipe, which it closes.

    Raises:
        ValueError: it is neither a pipe nor a socket nor a character device.
    """
    fd = pipe.fileno()
    mode = _mode(fd, "Pipe transport is for pipes/sockets only.")
    transport = ReadPipeTransport()
    earlier = loop._read_pipes.get(fd)
    _open(transport, loop, pipe, fd, mode, protocol, waiter, extra, writes=False)
    loop._read_pipes[fd] = transport
    if earlier is not None:
        # As one reader takes the place of another. Programs open their standard input anew for each
        # question, and forget the transport of the last.
        earlier._leave_reading()
    return transport


def open_write_pipe(
    loop: Any,
    pipe: Any,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
) -> WritePipeTransport:
    """A transport over the write end of a pipe, which it closes.

    Raises:
        ValueError: it is neither a pipe nor a socket nor a character device.
    """
    fd = pipe.fileno()
    mode = _mode(fd, "Pipe transport is only for pipes, sockets and character devices")
    transport = WritePipeTransport()
    _open(transport, loop, pipe, fd, mode, protocol, waiter, extra, writes=True)
    return transport


def _mode(fd: int, refusal: str) -> int:
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(refusal)
    return mode


def _open(
    transport: _PipeTransport,
    loop: Any,
    pipe: Any,
    fd: int,
    mode: int,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
    writes: bool,
) -> None:
    transport._extra.update(extra or {}, pipe=pipe)
    transport._fd = fd
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    one_way = stat.S_ISFIFO(mode) and access != os.O_RDWR
    # A FIFO that is open for both is its own reader; what a terminal has to read is not for us.
    watched = one_way or stat.S_ISSOCK(mode)
    shared = None if one_way and not loop._is_of_transport(fd) else _Shared(pipe, fd)
    is_device = stat.S_ISCHR(mode)
    try:
        if not is_device:
            os.set_blocking(fd, False)
        transport._open_pipe(
            loop, shared or pipe, protocol, contextvars.copy_context(), waiter, writes, watched
        )
    except BaseException:
        if shared is not None:
            shared.drop()
        raise
    if is_device:
        # Last: what the driver finds blocking it asks before each call. Terminals are shared with
        # programs that make them blocking again when they end.
        os.set_blocking(fd, False)
