"""Recipes for layers: immutable values, of which each connection attempt builds fresh layers.

Arguments are checked when the value is made, and files are read then. What belongs to a recipe,
such as the configuration and the sessions of `TLS` or the debt of a `RateGroup`, is shared by all
connections that use the value.
"""

from __future__ import annotations

from .framing import Delimiter, LengthPrefixed, Lines, Netstrings
from .looking import Detect, Idle, Tap
from .proxies import HTTPConnect, HTTPConnectServer, ProxyHeader, Socks4, Socks5, SocksServer
from .rates import RateGroup, RateLimit
from .spec import LayerSpec, spec_of, specs_of
from .tls import TLS, OpenSSL

__all__ = [
    "TLS",
    "Delimiter",
    "Detect",
    "HTTPConnect",
    "HTTPConnectServer",
    "Idle",
    "LayerSpec",
    "LengthPrefixed",
    "Lines",
    "Netstrings",
    "OpenSSL",
    "ProxyHeader",
    "RateGroup",
    "RateLimit",
    "Socks4",
    "Socks5",
    "SocksServer",
    "Tap",
    "spec_of",
    "specs_of",
]
