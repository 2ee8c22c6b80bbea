"""`sock_recv` and its kin: plain sockets of the user's, awaited."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from typing import IO, TYPE_CHECKING, Any

try:
    import ssl
except ImportError:  # Python can be built without.
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object

# How much a file is read at once where the kernel cannot send it by itself.
FALLBACK_CHUNK = 256 * 1024

Retry = (BlockingIOError, InterruptedError)


class Sockets(Base):
    """The socket operations of `Loop`.

    Each tries at once, and otherwise again when the descriptor is ready and its caller goes on: one
    that is cancelled has taken nothing from the socket. It is watched no longer then, however the wait
    ends, so that nothing is left on a descriptor whose number may be used again at once.
    """

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; none at the end of the stream."""
        self._check_socket(sock)
        while True:
            try:
                return sock.recv(n)  # type: ignore[no-any-return]
            except Retry:
                pass
            fd = sock.fileno()
            future = self._waits_for(fd, False)
            try:
                await future
            except BaseException:
                self._not_until_ready(fd, False, future)
                raise

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a buffer; returns the number of bytes."""
        self._check_socket(sock)
        try:
            return sock.recv_into(buf)  # type: ignore[no-any-return]
        except Retry:
            pass
        return await self._again(sock, False, "recv_into", buf)  # type: ignore[no-any-return]

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram, cut to bufsize bytes, and its sender's address."""
        self._check_socket(sock)
        try:
            return sock.recvfrom(bufsize)  # type: ignore[no-any-return]
        except Retry:
            pass
        return await self._again(sock, False, "recvfrom", bufsize)  # type: ignore[no-any-return]

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> tuple[int, Any]:
        """Receive a datagram into a buffer; returns its length and its sender's address."""
        self._check_socket(sock)
        try:
            return sock.recvfrom_into(buf, nbytes or len(buf))  # type: ignore[no-any-return]
        except Retry:
            pass
        return await self._again(sock, False, "recvfrom_into", buf, nbytes or len(buf))  # type: ignore[no-any-return]

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection: a non-blocking socket and the peer's address."""
        self._check_socket(sock)
        try:
            accepted = sock.accept()
        except Retry:
            accepted = None
        connection, address = accepted or await self._again(sock, False, "accept")
        connection.setblocking(False)
        return connection, address

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram to an address."""
        self._check_socket(sock)
        try:
            return sock.sendto(data, address)
        except Retry:
            pass
        return await self._again(sock, True, "sendto", data, address)  # type: ignore[no-any-return]

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all bytes of data. How many left before an exception is unknown."""
        self._check_socket(sock)
        try:
            sent = sock.send(data)
        except Retry:
            sent = 0
        if type(data) is bytes and sent == len(data):
            return
        with memoryview(data) as view, view.cast("B") as rest:
            while sent < len(rest):
                sent += await self._again(sock, True, "send", rest[sent:])

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket. A host name in the address is resolved first."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            found = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto
            )
            address = found[0][4]
        try:
            sock.connect(address)
            return
        except Retry:
            # An interrupted connect goes on by itself.
            pass
        await self._when_ready(sock.fileno(), True)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error != 0:
            raise OSError(error, f"Connect call failed {address}")

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file from offset on, count bytes or all; returns how many bytes left.

        The kernel sends it where it can. Else, with fallback, it is read in chunks, and without,
        `SendfileNotAvailableError` is raised.
        """
        self._check_socket(sock)
        check_sendfile(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        fd, size = regular_file(file)
        if size is None:
            raise asyncio.SendfileNotAvailableError("not a regular file")
        # A file that grows while it is sent is sent to its new end.
        sent = 0
        try:
            while count is None or sent < count:
                most = (1 << 30) if count is None else min(count - sent, 1 << 30)
                try:
                    step = await self._sendfile_step(sock, fd, offset + sent, most)
                except OSError as error:
                    if sent == 0 and not isinstance(error, ConnectionError):
                        raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from error
                    raise
                if step == 0:
                    break
                sent += step
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    async def _sock_sendfile_fallback(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int | None
    ) -> int:
        if hasattr(file, "seek"):
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                most = FALLBACK_CHUNK if count is None else min(count - sent, FALLBACK_CHUNK)
                chunk = file.read(most)
                if not chunk:
                    break
                await self.sock_sendall(sock, chunk)
                sent += len(chunk)
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    # ---- waiting

    # The method is named and not bound, since it may be another one at the next attempt: sockets take
    # attributes.

    async def _again(self, sock: socket.socket, writes: bool, method: str, *args: Any) -> Any:
        """What would have blocked, when it need not."""
        while True:
            # `_when_ready`, without a coroutine of its own.
            fd = sock.fileno()
            future = self._waits_for(fd, writes)
            try:
                await future
            except BaseException:
                self._not_until_ready(fd, writes, future)
                raise
            try:
                return getattr(sock, method)(*args)
            except Retry:
                pass

    async def _sendfile_step(self, sock: socket.socket, fd: int, offset: int, count: int) -> int:
        while True:
            try:
                return os.sendfile(sock.fileno(), fd, offset, count)
            except Retry:
                pass
            await self._when_ready(sock.fileno(), True)

    async def _when_ready(self, fd: int, writes: bool) -> None:
        future = self._waits_for(fd, writes)
        try:
            await future
        except BaseException:
            self._not_until_ready(fd, writes, future)
            raise

    def _waits_for(self, fd: int, writes: bool) -> asyncio.Future[None]:
        if self._transports.data:
            self._ensure_fd_no_transport(fd)
        future: asyncio.Future[None] = self.create_future()
        self._until_ready(fd, writes, future)
        return future

    def _check_socket(self, sock: socket.socket) -> None:
        if ssl is not None and isinstance(sock, ssl.SSLSocket):
            raise TypeError("Socket cannot be of type SSLSocket")
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")


def check_sendfile(sock: socket.socket | None, file: Any, offset: Any, count: Any) -> None:
    """Refuse what sendfile cannot do, in asyncio's words."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock is not None and sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


def regular_file(file: Any) -> tuple[int, int | None]:
    """The descriptor of a file and its size; no size if the kernel cannot send it."""
    try:
        fd = file.fileno()
        return fd, os.fstat(fd).st_size
    except (AttributeError, io.UnsupportedOperation, OSError):
        return -1, None
