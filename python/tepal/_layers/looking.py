"""Layers that look at what passes, and change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from .. import _tepal
from .._values import Value, check_bytes, check_seconds, check_str, check_word, kind_of
from .spec import LayerSpec, specs_of


@dataclass(frozen=True, repr=False)
class Idle(LayerSpec):
    """Tells the protocol, by `layer_idle("idle")`, that nothing has passed for a while.

    Where it stands decides what counts: below TLS every record does, above lines only whole ones.

    Args:
        after: seconds. It is told once for each quiet time, and the connection stays up.
    """

    after: float

    def __post_init__(self) -> None:
        if check_seconds("after", self.after) == 0:
            raise ValueError("after must be more than 0 seconds")
        self._make(_tepal.spec_idle, float(self.after))


@dataclass(frozen=True, repr=False)
class DetectChoice(Value):
    """One choice of a `Detect`; its methods make them."""

    name: str
    test: Literal["tls", "sni", "alpn", "prefix", "otherwise"]
    value: bytes
    layers: tuple[LayerSpec, ...]


@dataclass(frozen=True, repr=False)
class Detect(LayerSpec):
    """Looks at the first bytes that a client sends, and becomes the stack that fits them.

    So one port serves TLS and plain text, or several hosts. The bytes are not taken: the chosen
    stack sees all of them, 16 KiB at the most are looked at. Choices are tried in the order given;
    each method returns a new value with one more. If none fits, the connection fails with
    `HandshakeError`. The name of the one taken is `transport.layer_info("detect")`.

        tepal.Detect().tls("secure", [tepal.TLS(certificate="c.pem")]).otherwise("plain")
    """

    choices: tuple[DetectChoice, ...] = ()

    def __post_init__(self) -> None:
        choices = tuple(self.choices)
        for choice in choices:
            if not isinstance(choice, DetectChoice):
                raise TypeError("choices are made by the methods of Detect")
        self._set("choices", choices)
        native = [(c.name, c.test, c.value, specs_of(c.layers)) for c in choices]
        self._make(_tepal.spec_detect, native)

    def tls(self, name: str, layers: Iterable[Any]) -> Detect:
        """For any TLS ClientHello."""
        return self._more(name, "tls", b"", layers)

    def sni(self, name: str, host: str, layers: Iterable[Any]) -> Detect:
        """For a ClientHello that asks for this host, or, as "*.example.org", a direct subdomain."""
        return self._more(name, "sni", check_str("host", host).encode(), layers)

    def alpn(self, name: str, protocol: bytes | str, layers: Iterable[Any]) -> Detect:
        """For a ClientHello that offers this protocol."""
        value = protocol.encode() if isinstance(protocol, str) else protocol
        return self._more(name, "alpn", check_bytes("protocol", value), layers)

    def prefix(self, name: str, prefix: bytes, layers: Iterable[Any]) -> Detect:
        """For connections that begin with these bytes."""
        return self._more(name, "prefix", check_bytes("prefix", prefix), layers)

    def otherwise(self, name: str, layers: Iterable[Any] = ()) -> Detect:
        """For all others."""
        return self._more(name, "otherwise", b"", layers)

    def _check_usable(self, name: str) -> None:
        if not self.choices:
            raise ValueError(f"{name}: a Detect needs something to choose from")

    def _more(self, name: str, test: Any, value: bytes, layers: Iterable[Any]) -> Detect:
        check_str("name", name)
        stack = specs_of(layers).values
        return Detect((*self.choices, DetectChoice(name, test, value, stack)))


@dataclass(frozen=True, repr=False)
class Tap(LayerSpec):
    """Records what passes, in both directions, and changes nothing.

    Args:
        sink: called with encoded bytes, in order. It should be quick. What it raises is printed
            (`sys.unraisablehook`) and costs nothing else.
        format: "text" for people, "pcapng" for Wireshark.
    """

    sink: Callable[[bytes], object]
    _: KW_ONLY
    format: Literal["text", "pcapng"] = "text"

    def __post_init__(self) -> None:
        if not callable(self.sink):
            raise TypeError(f"sink must be callable, not {kind_of(self.sink)}")
        check_word("format", self.format, ("text", "pcapng"))
        self._make(_tepal.spec_tap, self, self.format == "pcapng")
