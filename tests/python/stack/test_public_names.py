"""The names that the design promises, with the arguments it gives them, documented and typed."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

import tepal

# A function or class, and the names of its arguments.
CALLS: dict[str, str] = {
    "run": "main debug",
    "new_event_loop": "resolver driver",
    "Loop.connect": "protocol_factory host port path sock layers local resolver addresses timeouts backoff",
    "Loop.listen": "protocol_factory host port path sock layers backlog reuse_port limits timeouts",
    "Loop.create_connection": "layers timeouts addresses",
    "Loop.create_server": "layers",
    "Loop.timer": "interval callback args",
    "Loop.watch": "fd events callback args",
    "Server.drain": "seconds",
    "StreamTransport.push_layer": "spec below residual",
    "StreamTransport.pop_layer": "layer timeout late",
    "StreamTransport.reconnect": "delay restart unsent",
    "StreamTransport.join": "other",
    "StreamTransport.established": "",
    "StreamTransport.set_read_low": "count",
    "Timer.start": "",
    "Timer.stop": "",
    "Timer.set": "interval",
    "Timer.again": "",
    "Watcher.start": "",
    "Watcher.stop": "",
    "Watcher.set": "events",
    "TLS": "server_hostname ca certificate key alpn client_ca resume keylog server_side close peer_close "
    "danger_accept_invalid_certificates",
    "OpenSSL": "context server_hostname",
    "Socks5": "host port username password",
    "Socks4": "host port user_id",
    "HTTPConnect": "host port username password headers",
    "ProxyHeader": "version trusted",
    "RateLimit": "read write burst group",
    "Lines": "delimiter max_length",
    "LengthPrefixed": "width byteorder max_length",
    "Netstrings": "max_length",
    "Timeouts": "total dns connecting handshake idle read write session closing",
    "Backoff": "first factor most jitter attempts",
    "Resolver": "servers search ndots hosts timeout attempts cache_size",
    "SystemResolver": "executor",
}
OTHERS = [
    "Layer", "Problem", "ConnectError", "TLSTruncated", "TLSAlert", "InputStalled", "Protocol", "READ", "WRITE", "Phase",
    "Timer.active", "Timer.interval", "StreamTransport.layers", "StreamTransport.phase", "StreamTransport.problem",
    "StreamTransport.closed", "StreamTransport.pause_in", "StreamTransport.resume_in", "StreamTransport.pause",
    "StreamTransport.resume", "StreamTransport.pause_reading", "StreamTransport.resume_reading",
]  # fmt: skip
HOOKS = [
    "connection_established", "io_in", "io_out", "pause_io_out", "resume_io_out", "timeout_dns", "timeout_connecting",
    "timeout_handshake", "timeout_idle", "error_dns", "error_connecting", "error_ssl", "error_layer", "layer_added",
    "layer_removed",
]  # fmt: skip
STUB = (Path(tepal.__file__).parent / "_tepal.pyi").read_text()


def found(name: str) -> Any:
    thing: Any = tepal
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize("name", CALLS)
def test_what_is_called_takes_the_arguments_of_the_design(name: str) -> None:
    signature = inspect.signature(found(name))
    assert set(CALLS[name].split()) <= set(signature.parameters)


@pytest.mark.parametrize("name", [*CALLS, *OTHERS])
def test_every_name_is_public_documented_and_typed(name: str) -> None:
    thing = found(name)
    top, *rest = name.split(".")
    assert top in tepal.__all__
    if not isinstance(thing, int):
        assert inspect.getdoc(thing), f"help({name}) says nothing"
    of_asyncio = bool(rest) and hasattr(asyncio.Transport, rest[0])
    if rest and not of_asyncio and "tepal._tepal" in str(getattr(thing, "__objclass__", "")):
        assert f"def {rest[0]}(" in STUB


@pytest.mark.parametrize("name", HOOKS)
def test_every_method_of_a_protocol_is_there_documented_and_optional(name: str) -> None:
    assert inspect.getdoc(getattr(tepal.Protocol, name))
    assert not getattr(asyncio.Protocol, name, None)
