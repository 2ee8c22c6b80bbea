"""A protocol that notes what it hears, and transports of pipes for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

Loop = asyncio.AbstractEventLoop


class Recorder(asyncio.Protocol):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.data = b""
        self.error: BaseException | None = None
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        assert self.transport.is_closing()
        self.heard.append("eof")
        return True

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self.heard.append("lost")


def turn(loop: Loop, until: Callable[[], Any]) -> None:
    """Runs the loop until something holds, for ten seconds at most."""

    async def wait() -> None:
        while not until():
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 10))


def over(loop: Loop, protocol: Recorder) -> None:
    turn(loop, lambda: "lost" in protocol.heard)


def read_end(loop: Loop, file: Any, protocol: Any = None) -> Any:
    made = loop.connect_read_pipe(lambda: protocol or Recorder(), file)
    return loop.run_until_complete(made)[1]


def write_end(loop: Loop, file: Any, protocol: Any = None) -> Any:
    made = loop.connect_write_pipe(lambda: protocol or Recorder(), file)
    return loop.run_until_complete(made)[1]


def pipe() -> tuple[Any, Any]:
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb", 0)
