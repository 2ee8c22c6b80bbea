"""An event loop with transports and protocols in the line of PEP 3156.

`tepal.run(main())` runs a coroutine on tepal's loop, which replaces asyncio's: everything in
`asyncio` works on it. For programs that take a loop factory, `tepal.new_event_loop` is one.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from ._errors import (
    Closed,
    CloseKind,
    ClosingTimeout,
    ConnectError,
    HandshakeError,
    HandshakeTimeout,
    InputStalled,
    LayerError,
    QuietTimeout,
    ResidualRejected,
    TLSAlert,
    TLSTruncated,
)
from ._loop import Loop
from ._protocol import LineProtocol, NetstringProtocol, Protocol
from ._reaching import Attempt, Backoff, Phase, Problem, Timeouts
from ._records import ProxyInfo, ProxyRequest, TLSInfo
from ._resolver import Resolver, SystemResolver
from ._run import get_running_loop, new_event_loop, run
from ._server import Limits, Server
from ._tepal import READ, WRITE, LayerIO, Timer, Watcher, __version__
from ._transports import StreamTransport

if TYPE_CHECKING:
    from ._layer import How, Layer, LayerRecipe
    from ._layers import (
        TLS,
        Delimiter,
        Detect,
        HTTPConnect,
        HTTPConnectServer,
        Idle,
        LayerSpec,
        LengthPrefixed,
        Lines,
        Netstrings,
        OpenSSL,
        ProxyHeader,
        RateGroup,
        RateLimit,
        Socks4,
        Socks5,
        SocksServer,
        Tap,
    )
    from ._protocol_layer import ProtocolLayer
    from ._simulation import Simulation

__all__ = [
    "READ",
    "TLS",
    "WRITE",
    "Attempt",
    "Backoff",
    "CloseKind",
    "Closed",
    "ClosingTimeout",
    "ConnectError",
    "Delimiter",
    "Detect",
    "HTTPConnect",
    "HTTPConnectServer",
    "HandshakeError",
    "HandshakeTimeout",
    "How",
    "Idle",
    "InputStalled",
    "Layer",
    "LayerError",
    "LayerIO",
    "LayerRecipe",
    "LayerSpec",
    "LengthPrefixed",
    "Limits",
    "LineProtocol",
    "Lines",
    "Loop",
    "NetstringProtocol",
    "Netstrings",
    "OpenSSL",
    "Phase",
    "Problem",
    "Protocol",
    "ProtocolLayer",
    "ProxyHeader",
    "ProxyInfo",
    "ProxyRequest",
    "QuietTimeout",
    "RateGroup",
    "RateLimit",
    "ResidualRejected",
    "Resolver",
    "Server",
    "Simulation",
    "Socks4",
    "Socks5",
    "SocksServer",
    "StreamTransport",
    "SystemResolver",
    "TLSAlert",
    "TLSInfo",
    "TLSTruncated",
    "Tap",
    "Timeouts",
    "Timer",
    "Watcher",
    "__version__",
    "get_running_loop",
    "new_event_loop",
    "run",
]

# The values that describe layers are made when one is first asked for: they take a third of the time
# that importing the package takes, and a program that wants only the loop needs none.
_LATER = {
    "Delimiter": "_layers",
    "Detect": "_layers",
    "HTTPConnect": "_layers",
    "HTTPConnectServer": "_layers",
    "How": "_layer",
    "Idle": "_layers",
    "Layer": "_layer",
    "LayerRecipe": "_layer",
    "LayerSpec": "_layers",
    "LengthPrefixed": "_layers",
    "Lines": "_layers",
    "Netstrings": "_layers",
    "OpenSSL": "_layers",
    "ProtocolLayer": "_protocol_layer",
    "ProxyHeader": "_layers",
    "RateGroup": "_layers",
    "RateLimit": "_layers",
    "Simulation": "_simulation",
    "Socks4": "_layers",
    "Socks5": "_layers",
    "SocksServer": "_layers",
    "TLS": "_layers",
    "Tap": "_layers",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
