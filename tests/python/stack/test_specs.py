"""Recipes for layers: what they refuse, hide, and keep."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

import tepal

from .conftest import DATA

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: tepal.Socks5("a b", 1), ValueError, "host"),
        (lambda: tepal.Socks5("", 1), ValueError, "host"),
        (lambda: tepal.Socks5(b"h", 1), TypeError, "host must be a str, not bytes"),
        (lambda: tepal.Socks5("h", 0), ValueError, "port must be from 1 to 65535, not 0"),
        (lambda: tepal.Socks5("h", 65536), ValueError, "port"),
        (lambda: tepal.Socks5("h", True), TypeError, "port must be an int, not bool"),
        (lambda: tepal.Socks5("h", "80"), TypeError, "port"),
        (lambda: tepal.Socks5("h", 1, password="p"), ValueError, "password"),
        (lambda: tepal.Socks5("h", 1, username="u" * 256, password="p"), ValueError, "255"),
        (lambda: tepal.Socks4("h", 1, user_id="a\0b"), ValueError, "Socks4"),
        (lambda: tepal.Socks4("::1", 1), ValueError, "Socks4"),
        (lambda: tepal.HTTPConnect("h", 1, headers=[("a b", "c")]), ValueError, "token"),
        (lambda: tepal.HTTPConnect("h", 1, headers=[("a", "c\r\nd: e")]), ValueError, "printable"),
        (lambda: tepal.HTTPConnect("h", 1, headers="abc"), TypeError, "headers"),
        (lambda: tepal.HTTPConnect("h", 1, headers=[("a",)]), TypeError, "pairs"),
        (lambda: tepal.HTTPConnect("h", 1, username="a:b", password="c"), ValueError, "colon"),
        (lambda: tepal.ProxyHeader(version=3), ValueError, "version"),
        (lambda: tepal.ProxyHeader(trusted="10.0.0.0/8"), TypeError, "trusted"),
        (lambda: tepal.ProxyHeader(trusted=["10.0.0.0/99"]), ValueError, "trusted"),
        (lambda: tepal.ProxyHeader(trusted=[3]), TypeError, "trusted"),
        (lambda: tepal.RateLimit(read=0), ValueError, "read"),
        (lambda: tepal.RateLimit(write=-1), ValueError, "write"),
        (lambda: tepal.RateLimit(burst="1"), TypeError, "burst"),
        (lambda: tepal.RateLimit(group=3), TypeError, "group must be a RateGroup, not int"),
        (lambda: tepal.RateLimit(100), TypeError, "positional"),
        (lambda: tepal.Lines(delimiter=b""), ValueError, "delimiter must not be empty"),
        (lambda: tepal.Lines(delimiter="\n"), TypeError, "delimiter must be bytes, not str"),
        (lambda: tepal.Lines(max_length=0), ValueError, "max_length"),
        (lambda: tepal.Lines(max_length=2**40), ValueError, "max_length"),
        (lambda: tepal.LengthPrefixed(width=9), ValueError, "width"),
        (lambda: tepal.LengthPrefixed(byteorder="native"), ValueError, "byteorder"),
        (lambda: tepal.Netstrings(max_length=1.5), TypeError, "max_length"),
        (lambda: tepal.Idle(0), ValueError, "after"),
        (lambda: tepal.Idle(float("nan")), ValueError, "after"),
        (lambda: tepal.Detect((3,)), TypeError, "methods of Detect"),
        (lambda: tepal.Detect().tls("a", tepal.Lines()), TypeError, "sequence"),
        (lambda: tepal.Detect().tls("a", [3]), TypeError, "layers[0]"),
        (lambda: tepal.Detect().tls(3, []), TypeError, "name"),
        (lambda: tepal.Detect().prefix("a", "text", []), TypeError, "prefix"),
        (lambda: tepal.Detect().prefix("a", b"", []), ValueError, "prefix"),
        (lambda: tepal.Detect().sni("a", b"host", []), TypeError, "host"),
        (lambda: tepal.Detect().otherwise("a", [tepal.Detect()]), ValueError, "choose"),
        (lambda: tepal.Tap(3), TypeError, "sink"),
        (lambda: tepal.Tap(print, format="xml"), ValueError, "format"),
        (lambda: tepal.TLS(3), TypeError, "server_hostname"),
        (lambda: tepal.TLS(ca=DATA / "no/ca.pem"), FileNotFoundError, "no/ca.pem"),
        (lambda: tepal.TLS(ca=3), TypeError, "ca must be a path or PEM bytes, not int"),
        (lambda: tepal.TLS(ca=b"nothing"), ValueError, "ca: there is no certificate"),
        (lambda: tepal.TLS(ca=DATA / "server.key"), ValueError, "server.key"),
        (lambda: tepal.TLS(certificate=DATA / "server.pem"), ValueError, "no valid private key"),
        (
            lambda: tepal.TLS(certificate=DATA / "server.pem", key=DATA / "other.key"),
            ValueError,
            "other.key",
        ),
        (lambda: tepal.TLS(key=DATA / "server.key"), ValueError, "key is given without"),
        (lambda: tepal.TLS(server_side=True), ValueError, "certificate is needed"),
        (lambda: tepal.TLS(alpn="h2"), TypeError, "alpn must be a sequence"),
        (lambda: tepal.TLS(alpn=[b""]), ValueError, "alpn"),
        (lambda: tepal.TLS(alpn=[3]), TypeError, "alpn must hold str or bytes, not int"),
        (lambda: tepal.TLS(close="maybe"), ValueError, "close must be one of 'wait'"),
        (lambda: tepal.TLS(peer_close="no"), ValueError, "peer_close"),
        (lambda: tepal.TLS(resume=1), TypeError, "resume must be True or False, not int"),
        (lambda: tepal.TLS(keylog=DATA / "no/log"), FileNotFoundError, "no/log"),
        (lambda: tepal.Timeouts(dns=-1), ValueError, "dns"),
        (lambda: tepal.Timeouts(total=float("inf")), ValueError, "total"),
        (lambda: tepal.Timeouts(idle="1"), TypeError, "idle"),
        (lambda: tepal.Timeouts(read=True), TypeError, "read"),
        (lambda: tepal.Backoff(factor=0.5), ValueError, "factor"),
        (lambda: tepal.Backoff(jitter=2), ValueError, "jitter"),
        (lambda: tepal.Backoff(attempts=-1), ValueError, "attempts"),
        (lambda: tepal.Backoff(first=None), TypeError, "first"),
        (lambda: tepal.Backoff(steady=-1), ValueError, "steady"),
        (lambda: tepal.Layer.spec()._build().step(None), NotImplementedError, "step"),
        (lambda: tepal.ProtocolLayer(3), TypeError, "factory"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(
    make: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        make()


SPECS = [
    tepal.Socks5("h", 1, username="u", password=CANARY),
    tepal.Socks4("h", 1, user_id="me"),
    tepal.HTTPConnect("h", 1, username="u", password=CANARY, headers=[("X-Key", CANARY)]),
    tepal.ProxyHeader(trusted=["10.0.0.0/8", "::1"]),
    tepal.RateLimit(read=1, write=2.0),
    tepal.Lines(delimiter=bytearray(b"\r\n")),
    tepal.Delimiter(b"|"),
    tepal.LengthPrefixed(width=2, byteorder="little"),
    tepal.Netstrings(),
    tepal.Idle(1.5),
    tepal.Detect().prefix("a", b"A", [tepal.Lines()]).otherwise("b"),
    tepal.TLS("a.test", ca=DATA / "ca.pem", alpn=["h2", b"x"]),
    tepal.Timeouts(idle=3),
    tepal.Backoff(first=1),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_a_spec_is_a_value(spec: Any) -> None:
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec and hash(copy) == hash(spec)
    assert copy is not spec and copy != object()
    with pytest.raises(AttributeError):
        spec.port = 3
    assert type(spec).__doc__
    assert repr(spec).startswith(type(spec).__name__ + "(")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_no_secret_shows(spec: Any) -> None:
    assert CANARY not in repr(spec) and CANARY not in str(spec)
    if isinstance(spec, tepal.LayerSpec):
        assert CANARY not in repr(spec._native)


def test_a_key_never_shows_whatever_way_it_was_given() -> None:
    key = (DATA / "server.key").read_bytes()
    chain = (DATA / "server.pem").read_bytes()
    for spec in (
        tepal.TLS(certificate=chain + key, ca=chain),
        tepal.TLS(certificate=chain, key=key, ca=bytearray(chain)),
    ):
        text = repr(spec) + repr(spec._native)
        assert "BEGIN" not in text and key.splitlines()[1].decode() not in text
        assert hash(spec) == hash(pickle.loads(pickle.dumps(spec)))


def test_a_rate_group_is_one_and_cannot_be_copied() -> None:
    group = tepal.RateGroup(read=1000)
    assert tepal.RateLimit(group=group) == tepal.RateLimit(group=group)
    assert tepal.RateLimit(group=group) != tepal.RateLimit(group=tepal.RateGroup(read=1000))
    with pytest.raises(TypeError, match="RateGroup cannot be pickled"):
        pickle.dumps(tepal.RateLimit(group=group))


def test_what_is_no_sequence_of_specs_is_refused() -> None:
    loop = tepal.new_event_loop()
    try:
        for layers, text in (
            (tepal.Lines(), "layers must be a sequence"),
            (3, "layers must be a sequence"),
            ("tls", "layers must be a sequence"),
            ([tepal.Lines], "layers\\[0\\] must be a layer spec"),
            ([tepal.Lines(), None], "layers\\[1\\] must be a layer spec"),
        ):
            with pytest.raises(TypeError, match=text):
                loop.connect(tepal.Protocol, "127.0.0.1", 9, layers=layers)
    finally:
        loop.close()


def test_signatures_are_those_of_the_design() -> None:
    import inspect

    assert str(inspect.signature(tepal.TLS)).startswith(
        "(server_hostname: 'str | None' = None, *, ca:"
    )
    names = list(inspect.signature(tepal.TLS).parameters)
    assert names == [
        "server_hostname", "ca", "certificate", "key", "alpn", "client_ca", "resume", "keylog",
        "server_side", "close", "peer_close", "danger_accept_invalid_certificates",
    ]  # fmt: skip
    assert list(inspect.signature(tepal.Timeouts).parameters) == [
        "total", "dns", "connecting", "handshake", "idle", "read", "write", "session", "closing",
    ]  # fmt: skip
    assert list(inspect.signature(tepal.Loop.connect).parameters)[1:] == [
        "protocol_factory", "host", "port", "path", "sock", "layers", "local", "resolver",
        "addresses", "handshakes", "timeouts", "backoff",
    ]  # fmt: skip
    assert list(inspect.signature(tepal.Loop.listen).parameters)[1:] == [
        "protocol_factory", "host", "port", "path", "sock", "layers", "backlog", "reuse_port",
        "limits", "timeouts",
    ]  # fmt: skip
