"""The transport of `ssl=` and `start_tls`: the native half, and what is not on a hot path."""

from __future__ import annotations

import asyncio
import warnings
from asyncio import constants, sslproto
from dataclasses import replace
from typing import Any

from ._errors import Closed
from ._listed import Listed
from ._reaching import Phase, Problem
from ._records import TLSInfo
from ._secured import recipe_of, upgrade
from ._tepal import SSLTransport as NativeSSL
from ._tls_endings import Failure, failure_of, record_of, story_of
from ._transports import _StreamInterface

try:
    import ssl
except ImportError:  # Python can be built without.
    ssl = None  # type: ignore[assignment]

Loop = asyncio.AbstractEventLoop


class _SSLInterface(_StreamInterface):
    """What `isinstance` sees."""


class SSLTransport(Listed, NativeSSL):
    """A TLS connection over another transport, whose protocol it is. Made by the loop's methods."""

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK  # type: ignore[attr-defined]
    _handshake_started: float | None = None
    _closed: Closed | None = None
    # What failed first; the exception itself is not kept.
    _failure: Failure | None = None
    _host: str | None = None
    _began: float | None = None
    _extra: dict[str, Any]

    # `isinstance` asks for it after the type itself.
    __class__ = property(lambda self: _SSLInterface)  # type: ignore[assignment]

    def __init__(
        self,
        loop: Loop,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | InboundHandshake | None,
        server_side: bool = False,
        server_hostname: str | None = None,
        call_connection_made: bool = True,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> None:
        if ssl is None:
            raise RuntimeError("stdlib ssl module not available")
        handshake = positive(
            "ssl_handshake_timeout", ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
        )
        shutdown = positive(
            "ssl_shutdown_timeout", ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT
        )
        context = sslcontext or _default_context(server_side, server_hostname)
        self._extra = {"sslcontext": context}
        self._host, self._server_side = server_hostname or None, server_side
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ssl_object = context.wrap_bio(
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=server_hostname if server_hostname and not server_side else None,
        )
        self._begin(
            event_loop=loop,
            protocol=protocol,
            waiter=waiter,
            ssl_object=ssl_object,
            incoming=incoming,
            outgoing=outgoing,
            call_connection_made=call_connection_made,
            handshake_timeout=handshake,
            shutdown_timeout=shutdown,
        )

    @property
    def closed(self) -> Closed | None:
        """How the connection ended; None while it has not.

        Bytes that were encrypted and did not leave count in `unsent` as encrypted, and so do those
        in `unread` that were not decrypted.
        """
        return self._closed

    @property
    def problem(self) -> Problem | None:
        """What ended the connection of a client, if that was a failure."""
        return None if self._closed is None else self._closed.problem

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, from the wire upward; empty once the connection is over."""
        if self._closed is not None:
            return ()
        below = getattr(self._below, "layers", ())
        return (*below, "tls") if isinstance(below, tuple) else ("tls",)

    def layer_info(self, name: str, /) -> Any:
        """What the handshake of the topmost layer of a name found out: "tls" gives a `TLSInfo`; or None."""
        if name != "tls":
            below = getattr(self._below, "layer_info", None)
            return None if below is None else below(name)
        found = self._extra.get("ssl_object")
        if found is None:
            return None
        cipher, alpn = found.cipher(), found.selected_alpn_protocol()
        certificate = found.getpeercert(True)
        return TLSInfo(
            version=found.version() or "",
            cipher="" if cipher is None else cipher[0],
            alpn=None if alpn is None else alpn.encode(),
            resumed=bool(found.session_reused),
            server_name=found.server_hostname,
            peer_certificates=() if certificate is None else (certificate,),
        )

    @property
    def phase(self) -> Phase:
        """Where the connection stands."""
        if self._closed is not None:
            return Phase.CLOSED
        state = self._state
        if state in ("flushing", "closing") or self.is_closing():
            return Phase.CLOSING
        return Phase.ESTABLISHED if state == "open" else Phase.HANDSHAKE

    @property
    def _sslcontext(self) -> Any:
        # What programs read of uvloop's transport, where asyncio's has no such thing.
        return self.get_extra_info("sslcontext")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts of TLS ("sslcontext", "ssl_object", "peercert", "cipher", "compression"), and those
        of the transport below ("socket", "sockname", "peername").
        """
        if name in self._extra:
            return self._extra[name]
        below = self._below
        return default if below is None else below.get_extra_info(name, default)

    # ---- what the native half lets Python do

    def _handshake_begins(self) -> None:
        loop = self._loop
        self._began = loop.time()
        if loop.get_debug():
            sslproto.logger.debug("%r starts SSL handshake", self)
            self._handshake_started = self._began

    def _handshake_done(self) -> None:
        ssl_object = self._ssl_object
        peercert = ssl_object.getpeercert()
        if self._handshake_started is not None:
            seconds = self._loop.time() - self._handshake_started
            sslproto.logger.debug("%r: SSL handshake took %.1f ms", self, seconds * 1e3)
        self._extra.update(
            peercert=peercert,
            cipher=ssl_object.cipher(),
            compression=ssl_object.compression(),
            ssl_object=ssl_object,
        )

    def _handshake_failed(self, error: BaseException) -> None:
        self._failure = self._failure or failure_of(error, in_handshake=True)
        message = "SSL handshake failed"
        if isinstance(error, ssl.CertificateError):
            message = "SSL handshake failed on verifying the certificate"
        self._fatal_error(error, message)

    @staticmethod
    def _tell_waiter(waiter: asyncio.Future[None] | InboundHandshake, error: BaseException | None) -> None:
        if waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def _fatal_error(self, exc: BaseException, message: str = "Fatal error on transport") -> None:
        self._failure = self._failure or failure_of(exc)
        below = self._below
        if below is not None:
            below._force_close(exc)
        if isinstance(exc, OSError):
            if self._loop.get_debug():
                sslproto.logger.debug("%r: %s", self, message, exc_info=exc)
        elif not isinstance(exc, asyncio.CancelledError):
            self._loop.call_exception_handler(
                {"message": message, "exception": exc, "transport": below, "protocol": self}
            )

    def _pressure_failed(self, method: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {
                "message": f"protocol.{method}() failed",
                "exception": error,
                "transport": self,
                "protocol": self.get_protocol(),
            }
        )

    @staticmethod
    def _eof_kept_open() -> None:
        sslproto.logger.warning("returning true from eof_received() has no effect when using ssl")

    @staticmethod
    def _wrote_after_end() -> None:
        sslproto.logger.warning("SSL connection is closed")

    def _is_lost(
        self,
        below: Any,
        ending: str | None,
        error: BaseException | None,
        unsent: int,
        unread: int,
    ) -> None:
        """Keep how it ended: here, or below if nothing did here."""
        closed = getattr(below, "closed", None)
        if not isinstance(closed, Closed):
            closed = None
        self._closed = record_of(closed, ending, error, self._failure, unsent, unread)
        if not self._server_side and not self._closed.clean and self._closed.problem is None:
            self._add_problem(below, error)

    def _add_problem(self, below: Any, error: BaseException | None) -> None:
        closed = self._closed
        assert closed is not None
        ready = "ssl_object" in self._extra
        story = story_of(
            closed,
            Phase.ESTABLISHED if ready else Phase.HANDSHAKE,
            self._host,
            None if below is None else below.get_extra_info("peername"),
            error,
            0.0 if self._began is None else self._loop.time() - self._began,
        )
        self._closed = replace(closed, problem=story)

    def _forget(self) -> None:
        self._extra = {}

    def __repr__(self) -> str:
        below = self._below
        return f"<{type(self).__name__} {self._state} over {below!r}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # Without a transport below nothing was begun.
        if self._below is not None and not self.is_closing():
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)


class InboundHandshake:
    """Waits for the handshake of an accepted connection, as a future does, for nobody."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def done(self) -> bool:
        return False

    def set_result(self, _: None) -> None:
        pass

    def set_exception(self, error: BaseException) -> None:
        # What peers do wrong is told in debug mode only.
        if self._loop.get_debug():
            self._loop.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": error,
                }
            )


def positive(name: str, value: float | None, default: float) -> float:
    if value is None:
        return default
    if value <= 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


def _default_context(server_side: bool, server_hostname: str | None) -> ssl.SSLContext:
    """What `ssl=True` means."""
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


async def start_tls(
    loop: Loop,
    transport: Any,
    protocol: asyncio.BaseProtocol,
    sslcontext: Any,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> Any:
    """Upgrade a transport to TLS; returns the transport that the protocol is to use from now on, None if
    the one that was given is closed before it is upgraded.

    With a `tepal.TLS` or `tepal.OpenSSL` that is the same one, with one more layer.
    """
    recipe = recipe_of(sslcontext)
    if recipe is not None:
        return await upgrade(
            loop,
            transport,
            protocol,
            recipe,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake=ssl_handshake_timeout,
            closing=ssl_shutdown_timeout,
        )
    if ssl is None:
        raise RuntimeError("Python ssl module is not available")
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(
            f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
        )
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    if getattr(transport, "closed", None) is not None:
        # Nothing would tell of its end again.
        return None
    waiter = loop.create_future()
    upgraded = SSLTransport(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        call_connection_made=False,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    if server_side:
        _take_read_ahead(protocol, upgraded)
    # No bytes before `connection_made`.
    transport.pause_reading()
    transport.set_protocol(upgraded)
    made = loop.call_soon(upgraded.connection_made, transport)
    resumed = loop.call_soon(transport.resume_reading)
    try:
        await waiter
    except BaseException:
        transport.close()
        made.cancel()
        resumed.cancel()
        del waiter  # It holds the exception, whose traceback holds this frame.
        raise
    # As asyncio has it: no transport comes of a connection that was closed meanwhile.
    return upgraded if upgraded.closed is None else None


def _take_read_ahead(protocol: asyncio.BaseProtocol, transport: SSLTransport) -> None:
    """A server's reader may hold the begin of the handshake already.

    Only a server's: what a client has read before its own ClientHello cannot belong to the
    handshake, and stays where it is.
    """
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader = protocol._stream_reader  # type: ignore[attr-defined]
        buffer = None if reader is None else reader._buffer
        if buffer:
            transport._feed(bytes(buffer))
            buffer.clear()
