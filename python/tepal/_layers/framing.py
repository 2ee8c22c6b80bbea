"""Layers of frames: one `write` is one frame, and so is one `data_received`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from .. import _tepal
from .._values import check_bytes, check_int, check_word
from .spec import LayerSpec


@dataclass(frozen=True, repr=False)
class Lines(LayerSpec):
    r"""Lines: one `write` is one line, one `data_received` is one line, without its end.

    Args:
        delimiter: what ends a line, such as b"\r\n".
        max_length: the longest line in bytes without its end. A peer's longer one fails the
            connection, before it is whole.
    """

    _: KW_ONLY
    delimiter: bytes = b"\n"
    max_length: int = 65536

    def __post_init__(self) -> None:
        self._set("delimiter", check_bytes("delimiter", self.delimiter))
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_lines, self.delimiter, self.max_length)


@dataclass(frozen=True, repr=False)
class Delimiter(LayerSpec):
    """Frames that end with any delimiter: `Lines` under the name "delimiter"."""

    delimiter: bytes
    _: KW_ONLY
    max_length: int = 65536

    def __post_init__(self) -> None:
        self._set("delimiter", check_bytes("delimiter", self.delimiter))
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_delimiter, self.delimiter, self.max_length)


# A link that never has room for one frame would never pass it on.
_LONGEST = (1 << 31) - 1


@dataclass(frozen=True, repr=False)
class LengthPrefixed(LayerSpec):
    """Frames behind their length: one `write` is one, one `data_received` is one.

    Args:
        width: bytes of the length, 1 to 8.
        byteorder: "big" or "little".
        max_length: the longest frame. A peer's longer one fails the connection at its length.
    """

    _: KW_ONLY
    width: int = 4
    byteorder: Literal["big", "little"] = "big"
    max_length: int = 16 << 20

    def __post_init__(self) -> None:
        check_int("width", self.width, 1, 8)
        check_word("byteorder", self.byteorder, ("big", "little"))
        check_int("max_length", self.max_length, 1, _LONGEST)
        big = self.byteorder == "big"
        self._make(_tepal.spec_length_prefixed, self.width, big, self.max_length)


@dataclass(frozen=True, repr=False)
class Netstrings(LayerSpec):
    """Netstrings (`3:abc,`): one `write` is one, one `data_received` is one.

    Args:
        max_length: the longest frame. A peer's longer one fails the connection at its length.
    """

    _: KW_ONLY
    max_length: int = 1 << 20

    def __post_init__(self) -> None:
        check_int("max_length", self.max_length, 1, _LONGEST)
        self._make(_tepal.spec_netstrings, self.max_length)
