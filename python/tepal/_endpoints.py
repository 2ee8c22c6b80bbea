"""Connections, servers, datagrams, pipes and processes: the loop's methods that make transports.

What only arranges things is the running Python's own: the functions of asyncio that look at
arguments, try addresses in turn and wrap errors are used as they are, so that signatures, messages
and order of events are those of its version. What they arrange is tepal's: transports, watching,
names. The methods whose names begin with an underscore are the seams that those functions call.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import os
import socket
import weakref
from asyncio import base_events, constants, unix_events
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._children import Child, watch_child
from ._pipes import ReadPipeTransport, WritePipeTransport, open_read_pipe, open_write_pipe
from ._secured import pending_protocol, recipe_of, served
from ._sockets import check_sendfile
from ._stories import connected, connecting, tells_no_more
from ._tepal import Listener
from ._tls import InboundHandshake, SSLTransport, start_tls
from ._transports import StreamTransport, open_datagram, open_stream

if TYPE_CHECKING:
    from ._tepal import Loop as Base
else:
    Base = object

_Asyncio = base_events.BaseEventLoop
_Unix = unix_events._UnixSelectorEventLoop


class Endpoints(Base):
    """The part of `Loop` that makes transports."""

    def _init_endpoints(self) -> None:
        self._listeners: dict[int, Listener] = {}
        self._unix_server_sockets: dict[socket.socket, int] = {}
        self._children: set[Child] = set()
        # Who reads which descriptor.
        self._read_pipes: weakref.WeakValueDictionary[int, ReadPipeTransport] = (
            weakref.WeakValueDictionary()
        )

    def _close_endpoints(self) -> None:
        for child in list(self._children):
            child.close()
        self._listeners.clear()

    # What programs read of asyncio's loop nonetheless.

    @property
    def _debug(self) -> bool:
        return self.get_debug()

    @property
    def _closed(self) -> bool:
        return self.is_closed()

    # ---- streams

    create_connection = _Asyncio.create_connection
    create_server = _Asyncio.create_server
    _create_server_getaddrinfo = _Asyncio._create_server_getaddrinfo
    connect_accepted_socket = _Asyncio.connect_accepted_socket
    create_unix_connection = _Unix.create_unix_connection
    create_unix_server = _Unix.create_unix_server
    start_tls = start_tls

    async def _connect_sock(
        self, exceptions: list[Any], addr_info: Any, local_addr_infos: Any = None
    ) -> socket.socket:
        try:
            async with connecting(exceptions, addr_info[4]):
                sock = await _Asyncio._connect_sock(self, exceptions, addr_info, local_addr_infos)
                connected(sock)
                return sock
        finally:
            del exceptions  # Or each of them would hold itself, through its traceback and this frame.

    async def _create_connection_transport(self, sock: socket.socket, *args: Any, **keywords: Any) -> Any:
        is_ours = tells_no_more(sock)
        try:
            return await _Asyncio._create_connection_transport(self, sock, *args, **keywords)
        except BaseException:
            # No transport was made that would close it, for example for want of a descriptor.
            if is_ours and not self._is_of_transport(sock.fileno()):
                sock.close()
            raise

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> StreamTransport:
        self._ensure_fd_no_transport(sock.fileno())
        context = contextvars.copy_context() if context is None else context
        return open_stream(self, sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        **keywords: Any,
    ) -> Any:
        recipe = recipe_of(sslcontext)
        if recipe is not None:
            pending = pending_protocol(
                self, protocol, recipe, server_hostname, server_side, ssl_handshake_timeout, ssl_shutdown_timeout
            )
            return self._make_socket_transport(rawsock, pending, waiter, extra=extra, server=server, **keywords)
        # As asyncio asks it: before anything of TLS is begun.
        self._ensure_fd_no_transport(rawsock.fileno())
        transport = SSLTransport(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(rawsock, transport, extra=extra, server=server, **keywords)
        return transport

    # ---- servers: the seams of asyncio's Server

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: contextvars.Context | None = None,
    ) -> None:
        fd = sock.fileno()
        if fd in self._listeners:
            return
        factory = protocol_factory
        options = getattr(server, "_listener_options", {})
        recipe = recipe_of(sslcontext)
        if recipe is not None:
            factory, options = served(self, protocol_factory, recipe, ssl_handshake_timeout, ssl_shutdown_timeout)
            # Native code refers weakly to what the server keeps.
            server._listener_options = options
        elif sslcontext is not None:

            def factory() -> asyncio.BaseProtocol:
                return SSLTransport(
                    self,
                    protocol_factory(),
                    sslcontext,
                    InboundHandshake(self),
                    True,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                )

        context = contextvars.copy_context() if context is None else context
        self._listeners[fd] = Listener(
            self,
            sock,
            factory,
            server,
            context,
            StreamTransport,
            **options,
        )

    def _stop_serving(self, sock: socket.socket) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()
        inode = self._unix_server_sockets.pop(sock, None)
        if inode is not None:
            _remove_socket_file(sock, inode)
        sock.close()

    # ---- datagrams

    create_datagram_endpoint = _Asyncio.create_datagram_endpoint

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        self._ensure_fd_no_transport(sock.fileno())
        context = contextvars.copy_context()
        return open_datagram(self, sock, protocol, address, waiter, extra, context)

    # ---- pipes

    connect_read_pipe = _Asyncio.connect_read_pipe
    connect_write_pipe = _Asyncio.connect_write_pipe

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> ReadPipeTransport:
        return open_read_pipe(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> WritePipeTransport:
        return open_write_pipe(self, pipe, protocol, waiter, extra)

    # ---- processes

    subprocess_exec = _Asyncio.subprocess_exec
    subprocess_shell = _Asyncio.subprocess_shell
    _log_subprocess = _Asyncio._log_subprocess

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> Any:
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **keywords,
        )  # fmt: skip
        child = watch_child(self, transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            process = transport.get_extra_info("subprocess")
            for pipe in (process.stdin, process.stdout, process.stderr):
                # Of those that got no transport, which asyncio forgets; and then waits for ever. One that
                # has a transport just made is that one's to close: it hears of the child's end.
                if pipe is None or isinstance(pipe, int) or pipe.closed:
                    continue
                if not self._is_of_transport(pipe.fileno()):
                    pipe.close()
            await child.wait()
            raise
        return transport

    # ---- files

    sendfile = _Asyncio.sendfile
    _check_sendfile_params = _Asyncio._check_sendfile_params

    async def _sendfile_native(
        self, transp: StreamTransport, file: Any, offset: int, count: int | None
    ) -> int:
        check_sendfile(None, file, offset, count)
        fd, size = _regular_file(file)
        left = max(size - offset, 0)
        left = left if not count else min(count, left)
        if not left:
            # A pipe has no size, and nothing of it is sent, as with asyncio; it has no offset either.
            with contextlib.suppress(OSError):
                os.lseek(fd, offset, os.SEEK_SET)
            return 0
        reads = transp.is_reading()
        transp.pause_reading()
        # What is written meanwhile would have no place in the order of the caller's own code.
        transp._hold(True)
        sent = 0
        future = self.create_future()
        try:
            queued = transp._send_file(os.dup(fd), offset, left, future)
            try:
                sent = await future
            except asyncio.CancelledError:
                cut = transp._cut_file(queued)
                sent = left if cut is None else cut
                raise
        except OSError as error:
            sent = getattr(error, "_tepal_sent", 0)
            raise
        finally:
            transp._hold(False)
            del future
            if reads:
                transp.resume_reading()
            os.lseek(fd, offset + sent, os.SEEK_SET)
        return sent

    async def _sendfile_fallback(
        self, transp: Any, file: Any, offset: int, count: int | None
    ) -> int:
        if hasattr(file, "seek"):
            file.seek(offset)
        total = 0
        sink = base_events._SendfileFallbackProtocol(transp)
        try:
            # Bounded pieces, read here: a file that is not regular has no better way, and the loop
            # starts no thread for it.
            piece = bytearray(_FILE_PIECE)
            while True:
                wanted = _FILE_PIECE if not count else min(count - total, _FILE_PIECE)
                if wanted <= 0:
                    return total
                read = file.readinto(memoryview(piece)[:wanted])
                if not read:
                    return total
                await sink.drain()
                transp.write(memoryview(piece)[:read])
                total += read
        finally:
            if total > 0 and hasattr(file, "seek"):
                file.seek(offset + total)
            await sink.restore()


# asyncio's figure for what one step of a file is.
_FILE_PIECE = constants.SENDFILE_FALLBACK_READBUFFER_SIZE


def _regular_file(file: Any) -> tuple[int, int]:
    try:
        fd = file.fileno()
        return fd, os.fstat(fd).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as error:
        raise asyncio.SendfileNotAvailableError("not a regular file") from error


def _remove_socket_file(sock: socket.socket, inode: int) -> None:
    # Somebody else may have put another one in its place.
    path = sock.getsockname()
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logging.getLogger("asyncio").error(
            "Unable to clean up listening UNIX socket %r: %s", path, error
        )
