"""Random children: their pipes, signals and ends, by streams and by protocols."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from typing import Any

from .kit import Kit, told

# What ends by itself, what waits for its input, and what has to be killed.
COMMANDS = [
    ("true",), ("sh", "-c", "exit 3"), ("cat",), ("sh", "-c", "echo out; echo err >&2"), ("sleep", "5"),
    ("sh", "-c", "kill -9 $$"), ("sh", "-c", "read line; echo $line; exit 4"), ("nobody-has-this",), ("sh", "-c", "exec <&-; echo; exec sleep 5"),
    (sys.executable, "-c", ""),
]  # fmt: skip


class Story(asyncio.SubprocessProtocol):
    """Notes what it hears of each pipe, and of the process."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.count = kit, {1: 0, 2: 0}
        self.raises = kit.choose(None, None, None, "process_exited", "pipe_connection_lost", "pipe_data_received", "connection_lost")
        self.over = asyncio.get_running_loop().create_future()

    def note(self, who: str, what: str, *more: Any) -> None:
        self.kit.note(who, what, *more)
        if what == self.raises:
            raise ZeroDivisionError(what)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("child", "connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.count[fd] += len(data)
        self.note(f"pipe {fd}", "pipe_data_received", len(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.note(f"pipe {fd}", "pipe_connection_lost", type(exc).__name__)

    def process_exited(self) -> None:
        self.note("child", "process_exited", self.transport.get_returncode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)
        self.note("child", "connection_lost", type(exc).__name__)


def end(kit: Kit, process: Any) -> None:
    """One way to end a child; there may be none any more."""
    try:
        kit.choose(process.kill, process.terminate, lambda: process.send_signal(signal.SIGUSR1))()
    except ProcessLookupError as error:
        kit.note("child", told(error))


async def by_protocol(kit: Kit, command: tuple[str, ...]) -> None:
    loop = asyncio.get_running_loop()
    pipes = {name: kit.choose(PIPE, DEVNULL) for name in ("stdin", "stdout", "stderr")}
    made = loop.subprocess_exec(lambda: Story(kit), *command, **pipes)
    try:
        transport, story = await made
    except OSError as error:
        kit.note("child", type(error).__name__, error.errno)
        return
    await kit.settle(40)
    for _ in range(kit.size(5)):
        what = kit.choose("write", "close stdin", "kill", "facts", "close", "pause")
        pipe = transport.get_pipe_transport(kit.choose(0, 1, 2))
        stdin = transport.get_pipe_transport(0)
        if what == "write" and stdin is not None:
            stdin.write(b"line\n")
        elif what == "close stdin" and stdin is not None:
            stdin.close()
        elif what == "kill":
            end(kit, transport)
        elif what == "close":
            kit.note("child", what, transport.close())
        elif what == "pause" and hasattr(pipe, "pause_reading"):
            pipe.pause_reading()
            await kit.settle(2)
            pipe.resume_reading()
        kit.note("child", what, transport.get_returncode(), transport.is_closing())
        await kit.settle(30)
    end(kit, transport)
    await kit.settle(10)
    transport.close()
    await kit.settle(20)
    kit.note("child", "over", story.over.done(), transport.get_returncode())


async def by_streams(kit: Kit, command: tuple[str, ...]) -> None:
    pipes = {name: kit.choose(PIPE, PIPE, DEVNULL) for name in ("stdin", "stdout", "stderr")}
    if kit.chance(0.2):
        pipes["stderr"] = STDOUT
    try:
        if kit.chance(0.2):
            process = await asyncio.create_subprocess_shell("echo out; " + shlex.join(command), **pipes)
        else:
            process = await asyncio.create_subprocess_exec(*command, **pipes)
    except OSError as error:
        kit.note("child", type(error).__name__, error.errno)
        return
    await kit.settle(40)
    for _ in range(kit.size(4)):
        what = kit.choose("write", "communicate", "wait", "readline", "kill", "read")
        if what == "write" and process.stdin is not None:
            async with kit.noting("child", what):
                process.stdin.write(b"line\n")
                await process.stdin.drain()
        elif what == "communicate":
            data = b"some\n" if process.stdin is not None and kit.chance(0.5) else None
            await kit.outcome("child", what, process.communicate(data))
        elif what == "wait":
            await kit.outcome("child", what, process.wait())
        elif what in ("readline", "read") and process.stdout is not None:
            await kit.outcome("child", what, getattr(process.stdout, what)())
        elif what == "kill":
            end(kit, process)
        kit.note("child", what, process.returncode)
        await kit.settle(20)
    end(kit, process)
    kit.note("child", "ended", await process.wait())
    kit.note("child", await process.communicate())


async def children(kit: Kit) -> None:
    """One child, and what its parent does with it."""
    command = kit.choose(*COMMANDS)
    kit.note("child", command)
    await kit.choose(by_protocol, by_streams)(kit, command)
