"""Each callback of a pipe or a child calls back: what comes of it is what comes of it in asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from recorders import Loop, Recorder, pipe, read_end, turn, write_end

import tepal

pytestmark = pytest.mark.usefixtures("ledger")

Act = Callable[[Any, Loop], Any]


def replaced(transport: Any, loop: Loop) -> None:
    protocol = transport.get_protocol()
    later = Recorder()
    later.transport, later.heard = transport, protocol.heard
    later.earlier = protocol  # type: ignore[attr-defined]
    transport.set_protocol(later)


def stopped(transport: Any, loop: Loop) -> None:
    loop.stop()


def another(transport: Any, loop: Loop) -> None:
    """A second pipe is made, used and closed meanwhile."""
    reader, writer = pipe()

    async def use() -> None:
        out, _ = await loop.connect_write_pipe(asyncio.Protocol, writer)
        since, _ = await loop.connect_read_pipe(asyncio.Protocol, reader)
        out.write(b"other")
        out.close()
        since.close()

    transport.task = loop.create_task(use())


READ_ACTS: dict[str, Act] = {
    "close": lambda transport, loop: transport.close(),
    "pause": lambda transport, loop: (transport.pause_reading(), loop.call_later(0.01, transport.resume_reading)),
    "pause and resume": lambda transport, loop: (transport.pause_reading(), transport.resume_reading()),
    "resume": lambda transport, loop: transport.resume_reading(),
    "replace": replaced,
    "stop": stopped,
    "another": another,
    "run again": lambda transport, loop: loop.run_forever(),
}
WRITE_ACTS: dict[str, Act] = {
    "close": lambda transport, loop: transport.close(),
    "abort": lambda transport, loop: transport.abort(),
    "write_eof": lambda transport, loop: transport.write_eof(),
    "write": lambda transport, loop: transport.write(b"more"),
    "write much": lambda transport, loop: transport.write(bytes(1 << 20)),
    "no limits": lambda transport, loop: transport.set_write_buffer_limits(0),
    "wide limits": lambda transport, loop: transport.set_write_buffer_limits(1 << 24),
    "replace": replaced,
    "stop": stopped,
    "another": another,
}
READ_CALLBACKS = ["connection_made", "data_received", "eof_received", "connection_lost"]
WRITE_CALLBACKS = ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


def acting(where: str, act: Act, loop: Loop, failures: list[str]) -> Recorder:
    """A recorder that acts the first time that `where` is called."""

    def acts(self: Any, *arguments: Any) -> Any:
        result = getattr(Recorder, where)(self, *arguments)
        if not self.acted:
            self.acted = True
            try:
                act(self.transport, loop)
            except Exception as error:
                failures.append(type(error).__name__)
        return result

    return type("Acts", (Recorder,), {where: acts, "acted": False})()


def factory(name: str) -> Loop:
    return {"asyncio": asyncio.SelectorEventLoop, "tepal": tepal.new_event_loop}[name]()


def go_on(loop: Loop, until: Callable[[], Any]) -> None:
    """Runs until something holds; a loop that was stopped goes on."""
    for _ in range(3):
        try:
            turn(loop, until)
            return
        except RuntimeError:
            # The act was to stop it.
            pass


def rest(loop: Loop) -> None:
    ends = loop.time() + 0.02
    while loop.time() < ends:
        go_on(loop, lambda: loop.time() >= ends)


def received(protocol: Recorder) -> bytes:
    later = protocol.transport.get_protocol()
    return protocol.data + (later.data if isinstance(later, Recorder) and later is not protocol else b"")


def opened(make: Callable[..., Any], loop: Loop, file: Any, protocol: Recorder) -> None:
    try:
        make(loop, file, protocol)
    except RuntimeError:
        rest(loop)


def of_reading(name: str, where: str, act: Act) -> Any:
    loop, failures = factory(name), []
    loop.set_debug(False)
    reader, writer = pipe()
    protocol = acting(where, act, loop, failures)
    try:
        opened(read_end, loop, reader, protocol)
        if "lost" not in protocol.heard:
            writer.write(b"some bytes")
            go_on(loop, lambda: received(protocol) or "lost" in protocol.heard)
        writer.close()
        go_on(loop, lambda: "lost" in protocol.heard)
        rest(loop)
        assert reader.closed
        return protocol.heard, received(protocol), failures
    finally:
        loop.close()


def of_writing(name: str, where: str, what: str) -> Any:
    loop, failures = factory(name), []
    loop.set_debug(False)
    reader, writer = pipe()
    protocol = acting(where, WRITE_ACTS[what], loop, failures)
    count = 0
    os.set_blocking(reader.fileno(), False)

    def drain() -> bool:
        nonlocal count
        while data := reader.read(1 << 20):
            count += len(data)
        return "lost" in protocol.heard

    try:
        opened(write_end, loop, writer, protocol)
        protocol.transport.write(bytes(1 << 20))
        go_on(loop, lambda: drain() or protocol.transport.get_write_buffer_size() == 0)
        protocol.transport.close()
        go_on(loop, drain)
        drain()
        reader.close()
        rest(loop)
        assert writer.closed
        ends = [word for word in protocol.heard if word in ("made", "lost")]
        paused = protocol.heard.count("pause") - protocol.heard.count("resume") in (0, 1)
        # How much the kernel has taken before an abort depends on when it is asked.
        return ends, paused, None if what == "abort" else count, failures
    finally:
        loop.close()


@pytest.mark.parametrize("act", READ_ACTS)
@pytest.mark.parametrize("where", READ_CALLBACKS)
def test_a_read_end_is_acted_upon_in_its_callbacks(where: str, act: str) -> None:
    expected = of_reading("asyncio", where, READ_ACTS[act])
    assert of_reading("tepal", where, READ_ACTS[act]) == expected


@pytest.mark.parametrize("act", WRITE_ACTS)
@pytest.mark.parametrize("where", WRITE_CALLBACKS)
def test_a_write_end_is_acted_upon_in_its_callbacks(where: str, act: str) -> None:
    assert of_writing("tepal", where, act) == of_writing("asyncio", where, act)
