"""Values that nobody expects: wrong types, numbers out of range, objects whose methods fail or re-enter."""

from __future__ import annotations

import array
import asyncio
import mmap
import os
import socket
from collections.abc import Callable
from typing import Any


class Hostile(Exception):
    """What the hostile objects raise."""


SPECIAL = (
    "__index__", "__int__", "__float__", "__eq__", "__hash__", "__bool__", "__len__", "__iter__", "__call__",
    "__str__", "__lt__", "__getitem__", "__await__", "__fspath__", "__buffer__", "__enter__",
)  # fmt: skip
# What a well-behaved object of that kind would return.
BLAND: dict[str, Any] = {
    "__index__": 1, "__int__": 1, "__float__": 1.0, "__eq__": False, "__hash__": 1, "__bool__": True, "__len__": 1,
    "__str__": "text", "__lt__": False, "__fspath__": "nowhere",
}  # fmt: skip


def raising(*names: str) -> Any:
    """An object whose special methods of these names raise."""

    def fail(self: Any, *args: Any) -> Any:
        raise Hostile

    return type("Raising", (), dict.fromkeys(names, fail))()


def acting(action: Callable[[], object]) -> Any:
    """An object whose special methods do something and then answer, or fail where they cannot."""

    def method(name: str) -> Any:
        def act(self: Any, *args: Any) -> Any:
            action()
            if name in BLAND:
                return BLAND[name]
            raise Hostile

        return act

    return type("Acting", (), {name: method(name) for name in SPECIAL})()


class Answering:
    """Has every attribute, none of use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self


class Refusing:
    """Whoever asks for an attribute hears an error that is no AttributeError."""

    def __getattr__(self, name: str) -> Any:
        raise Hostile


class Unshown:
    """Has no repr."""

    def __repr__(self) -> str:
        raise Hostile


class Number(int):
    """An int whose methods fail."""

    def __index__(self) -> int:
        raise Hostile

    __eq__ = __lt__ = __bool__ = __hash__ = __add__ = __repr__ = __index__  # type: ignore[assignment]


class Text(str):
    """A str whose methods fail."""

    def __eq__(self, other: object) -> bool:
        raise Hostile

    __hash__ = __len__ = __iter__ = __str__ = encode = __eq__  # type: ignore[assignment]


class Data(bytes):
    """Bytes whose methods fail."""

    def __len__(self) -> int:
        raise Hostile

    __eq__ = __hash__ = __bool__ = __getitem__ = __len__  # type: ignore[assignment]


def released() -> memoryview:
    view = memoryview(bytearray(b"gone"))
    view.release()
    return view


def exported() -> bytearray:
    """Cannot be resized, since a view of it lives as long as it does."""
    data = bytearray(b"exported")
    KEPT.append(memoryview(data))
    return data


def closed_socket() -> socket.socket:
    made = socket.socket()
    made.close()
    return made


def closed_loop() -> asyncio.AbstractEventLoop:
    made = asyncio.SelectorEventLoop()
    made.close()
    return made


class Scene:
    """What the values need: a loop; and what is to be closed when the call is over."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.owned: list[Any] = []

    def own(self, thing: Any) -> Any:
        self.owned.append(thing)
        return thing

    def pair(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        ours, theirs = socket.socketpair(type=kind)
        ours.setblocking(False)
        theirs.setblocking(False)
        self.owned += [ours, theirs]
        return ours

    def pipe(self, end: int) -> Any:
        ends = os.pipe()
        os.set_blocking(ends[0], False)
        self.own(os.fdopen(ends[1 - end], "rw"[1 - end] + "b", 0))
        return self.own(os.fdopen(ends[end], "rw"[end] + "b", 0))

    def opened(self, path: str, mode: str = "rb") -> Any:
        return self.own(open(path, mode))

    def close(self) -> None:
        for thing in reversed(self.owned):
            thing.close()


KEPT: list[Any] = []

Make = Callable[[Scene], Any]

# Whoever touches these hears an error, or has the loop used behind his back: what comes of it depends on
# who touches what first.
TRAPS: dict[str, Make] = {
    "all methods fail": lambda _: raising(*SPECIAL),
    **{f"{name} fails": lambda _, name=name: raising(name) for name in SPECIAL},
    "refuses everything": lambda _: Refusing(),
    "answers everything": lambda _: Answering(),
    "has no repr": lambda _: Unshown(),
    "number that fails": lambda _: Number(3),
    "text that fails": lambda _: Text("text"),
    "bytes that fail": lambda _: Data(b"data"),
    "stops the loop": lambda s: acting(s.loop.stop),
    "closes the loop": lambda s: acting(s.loop.close),
    "runs the loop": lambda s: acting(s.loop.run_forever),
    "queues in the loop": lambda s: acting(lambda: s.loop.call_soon(int)),
}

VALUES: dict[str, Make] = {
    **TRAPS,
    "None": lambda _: None,
    "True": lambda _: True,
    "zero": lambda _: 0,
    "minus one": lambda _: -1,
    "2**31": lambda _: 2**31,
    "2**63": lambda _: 2**63,
    "2**200": lambda _: 2**200,
    "-2**200": lambda _: -(2**200),
    "half": lambda _: 0.5,
    "nan": lambda _: float("nan"),
    "inf": lambda _: float("inf"),
    "-inf": lambda _: float("-inf"),
    "complex": lambda _: 1j,
    "empty text": lambda _: "",
    "text": lambda _: "text",
    "text with NUL": lambda _: "a\0b",
    "lone surrogate": lambda _: "\ud800",
    "long text": lambda _: "x" * 100_000,
    "empty bytes": lambda _: b"",
    "bytes": lambda _: b"\xff\0",
    "bytearray": lambda _: bytearray(b"data"),
    "exported bytearray": lambda _: exported(),
    "released view": lambda _: released(),
    "view with gaps": lambda _: memoryview(bytearray(16))[::2],
    "view of doubles": lambda _: memoryview(array.array("d", [1.0, 2.0])),
    "view in two dimensions": lambda _: memoryview(bytearray(16)).cast("B", (4, 4)),
    "view of nothing": lambda _: memoryview(b""),
    "view that cannot be written to": lambda _: memoryview(b"data"),
    "large map": lambda s: s.own(mmap.mmap(-1, 8 << 20)),
    "object": lambda _: object(),
    "class": lambda _: object,
    "class of sockets": lambda _: socket.socket,
    "class of protocols": lambda _: asyncio.Protocol,
    "protocol": lambda _: asyncio.Protocol(),
    "function": lambda _: lambda *args, **keywords: None,
    "function that fails": lambda _: raising("__call__"),
    "tuple": lambda _: (),
    "tuple of wrong things": lambda _: (None, object()),
    "address": lambda _: ("127.0.0.1", 1),
    "address out of range": lambda _: ("127.0.0.1", 65536),
    "list": lambda _: [1],
    "dict": lambda _: {},
    "generator": lambda _: (number for number in ()),
    "closed socket": lambda _: closed_socket(),
    "stream socket": lambda s: s.pair(),
    "datagram socket": lambda s: s.pair(socket.SOCK_DGRAM),
    "packet socket": lambda s: s.pair(socket.SOCK_SEQPACKET),
    "unconnected socket": lambda s: s.own(socket.socket()),
    "reading pipe": lambda s: s.pipe(0),
    "writing pipe": lambda s: s.pipe(1),
    "file": lambda s: s.opened("/dev/null"),
    "text file": lambda s: s.opened("/dev/null", "r"),
    "closed loop": lambda _: closed_loop(),
    "foreign loop": lambda s: s.own(asyncio.SelectorEventLoop()),
    "foreign future": lambda s: asyncio.Future(loop=s.own(asyncio.SelectorEventLoop())),
    "the loop": lambda s: s.loop,
    "module": lambda _: os,
    "exception": lambda _: ValueError("a value"),
    "class of exceptions": lambda _: ValueError,
}
