"""Limits of bytes per second."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from .. import _tepal
from .._values import check_int, kind_of
from .spec import LayerSpec


class RateGroup:
    """A limit that several connections share: give it to their `RateLimit`.

    Args:
        read: bytes per second that all of them together may read. None: no limit.
        write: and write.
    """

    __slots__ = ("__weakref__", "_native", "_read", "_write")

    def __init__(self, *, read: int | None = None, write: int | None = None) -> None:
        self._read = _rate("read", read)
        self._write = _rate("write", write)
        self._native = _tepal.RateGroup(self._read, self._write)

    @property
    def read(self) -> int | None:
        """Bytes per second."""
        return self._read

    @property
    def write(self) -> int | None:
        """Bytes per second."""
        return self._write

    def __repr__(self) -> str:
        return f"RateGroup(read={self._read}, write={self._write})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy would be another group, and the limit no limit.
        raise TypeError("a RateGroup cannot be pickled: it is shared within one process")


def _rate(name: str, rate: object) -> int | None:
    if rate is None:
        return None
    if isinstance(rate, float) and rate >= 1 and rate < 1 << 63:
        return round(rate)
    return check_int(name, rate, 1, (1 << 63) - 1)


@dataclass(frozen=True, repr=False)
class RateLimit(LayerSpec):
    """Holds the rate of a connection, per direction, by waiting: nothing is dropped or reordered.

    Args:
        read: bytes per second. None: no limit.
        write: bytes per second.
        burst: bytes that may pass at once after a quiet time. None: what 1/20 s of the rate is.
        group: a limit shared with other connections.
    """

    _: KW_ONLY
    read: int | None = None
    write: int | None = None
    burst: int | None = None
    group: RateGroup | None = None

    def __post_init__(self) -> None:
        for name in ("read", "write", "burst"):
            self._set(name, _rate(name, getattr(self, name)))
        if self.group is not None and not isinstance(self.group, RateGroup):
            raise TypeError(f"group must be a RateGroup, not {kind_of(self.group)}")
        native = None if self.group is None else self.group._native
        self._make(_tepal.spec_rate, self.read, self.write, self.burst, native)
