"""What native transports let Python do: reports, and what is asyncio's own and rare."""

from __future__ import annotations

import asyncio
import errno
import operator
import socket
import sys
from asyncio import base_events
from typing import Any

from ._native import shown

Loop = asyncio.AbstractEventLoop

INTERNET = (socket.AF_INET, socket.AF_INET6)


def accepted(transport: Any) -> None:
    """Debug mode: tell of a connection that was accepted."""
    base_events.logger.debug(
        "%r got a new connection from %r: %r",
        transport._server, transport.get_extra_info("peername"), transport._sock,
    )  # fmt: skip


def log_event(transport: Any, what: str) -> None:
    """Debug mode: tell what happened to a transport."""
    base_events.logger.debug("%r %s", transport, what)


def sends_to(transport: Any, address: Any) -> None:
    """Tell audit hooks of a datagram, as `socket.sendto` does."""
    sys.audit("socket.sendto", transport._sock, address)


def socket_of(fd: int) -> socket.socket:
    """A socket object over the descriptor of an accepted connection, which stays the loop's."""
    return socket.socket(fileno=fd)


def transport_failed(transport: Any, message: str, error: BaseException) -> None:
    """Tell what a callback of a protocol raised, which costs the connection."""
    loop = transport._loop
    if isinstance(error, OSError):
        if loop.get_debug():
            base_events.logger.debug("%r: %s", transport, message, exc_info=error)
        return
    loop.call_exception_handler(
        {
            "message": message,
            "exception": error,
            "transport": transport,
            "protocol": transport.get_protocol(),
        }
    )


def transport_callback_failed(transport: Any, callback: str, error: BaseException) -> None:
    """Tell what `connection_made` or `connection_lost` raised, as for any callback."""
    protocol = transport.get_protocol()
    transport._loop.call_exception_handler(
        {
            "message": f"Exception in callback {callback} of {shown(protocol)}",
            "exception": error,
            "transport": transport,
            "protocol": protocol,
        }
    )


def callback_was_slow(transport: Any, method: str, seconds: float) -> None:
    """Debug mode: complain of a method of a protocol's that held up the loop."""
    if seconds < transport._loop.slow_callback_duration:
        return
    protocol = transport.get_protocol()
    while isinstance(protocol, asyncio.BaseTransport):
        # TLS, in whose call the user's protocol was called.
        protocol = protocol.get_protocol()
    base_events.logger.warning(
        "Executing <%s.%s() of %r> took %.3f seconds", type(protocol).__name__, method, transport, seconds
    )


def _tell_protocol(transport: Any, method: str) -> None:
    protocol = transport.get_protocol()
    try:
        getattr(protocol, method)()
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        transport._loop.call_exception_handler(
            {
                "message": f"protocol.{method}() failed",
                "exception": error,
                "transport": transport,
                "protocol": protocol,
            }
        )


def pause_protocol(transport: Any) -> None:
    """Tell the protocol that more is buffered than the high mark."""
    if not transport._protocol_paused:
        transport._protocol_paused = True
        _tell_protocol(transport, "pause_writing")


def resume_protocol(transport: Any) -> None:
    """Tell the protocol that no more is buffered than the low mark."""
    if transport._protocol_paused:
        transport._protocol_paused = False
        _tell_protocol(transport, "resume_writing")


def write_limits(high: Any, low: Any, usual: int) -> tuple[int, int]:
    """The marks (low, high) that asyncio would compute of these; a transport counts whole bytes."""
    if high is None:
        high = usual if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return int(min(low, sys.maxsize)), int(min(high, sys.maxsize))


def accepting_failed(loop: Loop, error: BaseException) -> None:
    """Tell that the protocol of an accepted connection could not be made."""
    loop.call_exception_handler(
        {
            "message": "Error on transport creation for incoming connection",
            "exception": error,
        }
    )


def accept_failed(loop: Loop, error: OSError, exhausted: bool) -> None:
    """Tell that a connection could not be accepted."""
    if exhausted:
        message = "socket.accept() out of system resource"
    else:
        message = "socket.accept() failed"
    loop.call_exception_handler({"message": message, "exception": error})


def wrote_after_end(is_pipe: bool = False) -> None:
    """Somebody goes on writing to a connection that has ended."""
    if is_pipe:
        base_events.logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
    else:
        base_events.logger.warning("socket.send() raised exception.")


def pipe_failed(transport: Any, error: BaseException, wrote: bool) -> None:
    """Tell what the kernel said of a pipe, as asyncio's pipes do.

    A terminal ends with EIO when its other side is closed; a failed write is the protocol's affair.
    """
    message = f"Fatal {'write' if wrote else 'read'} error on pipe transport"
    if wrote or (isinstance(error, OSError) and error.errno == errno.EIO):
        if transport._loop.get_debug():
            base_events.logger.debug("%r: %s", transport, message, exc_info=error)
        return
    transport._loop.call_exception_handler(
        {
            "message": message,
            "exception": error,
            "transport": transport,
            "protocol": transport.get_protocol(),
        }
    )


def resolve_now(transport: Any, address: Any) -> Any:
    """The numeric address that `socket.sendto` would send to: it resolves names on the spot."""
    sock = transport._sock
    if sock.family not in INTERNET:
        raise TypeError(f"{address!r} is no address of a socket of family {sock.family!r}")
    if not isinstance(address, tuple):
        raise TypeError(f"sendto(): {sock.family.name} address must be tuple, not {type(address).__name__}")
    if not 2 <= len(address) <= (2 if sock.family == socket.AF_INET else 4):
        raise TypeError(f"{sock.family.name} address must be a pair (host, port)")
    host, port, *rest = address
    if not isinstance(host, (str, bytes, bytearray)):
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    # getaddrinfo takes a port modulo 65536.
    if not 0 <= operator.index(port) <= 65535:
        raise OverflowError("sendto(): port must be 0-65535.")
    found = socket.getaddrinfo(host, port, sock.family, sock.type, sock.proto)[0][4]
    return (*found[:2], *(rest or found[2:]))


def why_not_sent(transport: Any, address: Any, error: OSError) -> Exception:
    """What `socket.sendto` raises where the kernel refused an address of another family."""
    if transport._sock.family in INTERNET and isinstance(address, (str, bytes)):
        return TypeError(f"sendto(): the address must be tuple, not {type(address).__name__}")
    return error


def file_sent(
    future: asyncio.Future[int], count: int, error: BaseException | None, unsupported: bool
) -> None:
    """End the future of a file that was being sent."""
    if future.done():
        return
    if error is None:
        future.set_result(count)
    elif unsupported:
        future.set_exception(asyncio.SendfileNotAvailableError(str(error)))
    else:
        # Whoever gives the file back to its owner sets its position by this.
        error._tepal_sent = count  # type: ignore[attr-defined]
        future.set_exception(error)
