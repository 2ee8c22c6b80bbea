"""Immutable values that check their arguments, and the checks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

T = TypeVar("T", bound="Value")


class Value:
    """The base of frozen dataclasses that hide secrets in their repr and pickle by their fields."""

    def _set(self, name: str, value: object) -> None:
        # During __post_init__ only: a frozen dataclass refuses an assignment.
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not field.repr:
                if field.metadata.get("secret") and value:
                    shown.append(f"{field.name}=<hidden>")
            elif value != field.default or field.default is dataclasses.MISSING:
                text = self._shown(field.name, value)
                shown.append(f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _shown(self, name: str, value: object) -> str:
        return repr(value)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields if field.init}
        return (_rebuild, (type(self), values))


def _rebuild(cls: type[T], values: dict[str, Any]) -> T:
    return cls(**values)


def secret(default: Any = None) -> Any:
    """A field that is never shown."""
    return dataclasses.field(default=default, repr=False, metadata={"secret": True})


def kind_of(value: object) -> str:
    """The name of a value's type, for messages."""
    return type(value).__name__


def check_int(name: str, value: object, least: int, most: int | None = None) -> int:
    """An int within bounds.

    Raises:
        TypeError: it is no int, or a bool.
        ValueError: it is out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {kind_of(value)}")
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, not {value}")
    return int(value)


def check_port(value: object) -> int:
    """A port that can be connected to."""
    return check_int("port", value, 1, 65535)


def check_seconds(name: str, value: object) -> float:
    """A span in seconds, zero or more.

    Raises:
        TypeError: it is no number, or a bool.
        ValueError: it is negative, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {kind_of(value)}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a number of seconds from 0 on, not {value!r}")
    return value


def check_str(name: str, value: object, *, empty: bool = False) -> str:
    """A str.

    Raises:
        TypeError: it is none.
        ValueError: it is empty and must not be.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {kind_of(value)}")
    if not value and not empty:
        raise ValueError(f"{name} must not be empty")
    return value


def check_bytes(name: str, value: object) -> bytes:
    """Bytes, not empty; a bytearray or memoryview is copied."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{name} must be bytes, not {kind_of(value)}")
    if not len(value):
        raise ValueError(f"{name} must not be empty")
    return bytes(value)


def check_bool(name: str, value: object) -> bool:
    """A bool and nothing that merely is true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {kind_of(value)}")
    return value


def check_word(name: str, value: object, words: tuple[str, ...]) -> str:
    """One of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {kind_of(value)}")
    if value not in words:
        listed = ", ".join(repr(word) for word in words)
        raise ValueError(f"{name} must be one of {listed}, not {value!r}")
    return value
