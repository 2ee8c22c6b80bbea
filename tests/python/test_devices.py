"""Terminals, and what else is given to `connect_read_pipe`: asyncio's loop is the judge where it can be."""

from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorders import Loop, over, read_end, turn, write_end

import tepal

pytestmark = pytest.mark.usefixtures("ledger")


def test_the_end_of_a_terminal_is_no_failure(any_loop: Loop, reports: Callable[[], list[str]]) -> None:
    ours, theirs = os.openpty()
    protocol = read_end(any_loop, os.fdopen(ours, "rb", 0))
    os.write(theirs, b"typed")
    turn(any_loop, lambda: protocol.data == b"typed")
    os.close(theirs)
    over(any_loop, protocol)
    assert isinstance(protocol.error, OSError) and protocol.error.errno == errno.EIO
    assert protocol.heard == ["made", "lost"]
    assert reports() == []


def test_a_terminal_has_a_transport_for_each_direction(any_loop: Loop) -> None:
    ours, theirs = os.openpty()
    reading = read_end(any_loop, os.fdopen(ours, "rb", 0))
    writing = write_end(any_loop, os.fdopen(ours, "wb", 0, closefd=False))
    seen: list[bytes] = []
    os.write(theirs, b"prompt")
    turn(any_loop, lambda: reading.data == b"prompt")
    writing.transport.write(b"answer\n")
    any_loop.add_writer(theirs, lambda: (seen.append(b"room"), any_loop.remove_writer(theirs)))
    turn(any_loop, lambda: seen)
    assert os.read(theirs, 100) == b"answer\n"
    # Typed bytes are echoed.
    turn(any_loop, lambda: reading.data == b"promptanswer\r\n")
    if isinstance(any_loop, tepal.Loop):
        # asyncio's pipes take each other's watch away.
        writing.transport.close()
        over(any_loop, writing)
        os.write(theirs, b"!")
        turn(any_loop, lambda: reading.data.endswith(b"!"))
    reading.transport.close()
    writing.transport.close()
    over(any_loop, reading)
    over(any_loop, writing)
    os.close(theirs)


def test_a_terminal_that_others_make_blocking_does_not_hold_up_the_loop(any_loop: Loop) -> None:
    ours, theirs = os.openpty()
    protocol = read_end(any_loop, os.fdopen(ours, "rb", 0))
    os.set_blocking(ours, True)
    for count in (1, 2):
        os.write(theirs, b".")
        turn(any_loop, lambda count=count: len(protocol.data) == count)
    protocol.transport.close()
    over(any_loop, protocol)
    os.close(theirs)


def test_standard_input_is_opened_anew_for_each_question(any_loop: Loop) -> None:
    reader, writer = os.pipe()
    stdin = os.fdopen(reader, "rb", 0)

    async def ask(answer: bytes) -> bytes:
        stream = asyncio.StreamReader()
        await any_loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), stdin)
        kept.append(stream)
        os.write(writer, answer)
        return await asyncio.wait_for(stream.readline(), 10)

    kept: list[asyncio.StreamReader] = []
    for line in (b"one\n", b"two\n", b"three\n"):
        assert any_loop.run_until_complete(ask(line)) == line
    os.close(writer)
    assert any_loop.run_until_complete(asyncio.wait_for(kept[-1].read(), 10)) == b""
    turn(any_loop, lambda: stdin.closed)
    for stream in kept:
        stream._transport.close()  # type: ignore[attr-defined]
    any_loop.run_until_complete(asyncio.sleep(0.01))


def test_what_epoll_refuses_is_read_to_its_end(loop: Any, run: Any) -> None:
    protocol = read_end(loop, io.FileIO("/dev/null", "r"))
    over(loop, protocol)
    assert (protocol.heard, protocol.error) == (["made", "eof", "lost"], None)
    writing = write_end(loop, io.FileIO("/dev/null", "w"))
    writing.transport.write(bytes(1 << 20))
    assert writing.transport.get_write_buffer_size() == 0
    for _ in range(3):
        run(asyncio.sleep(0))
    assert writing.heard == ["made"]
    writing.transport.close()
    over(loop, writing)


def test_a_fifo_that_is_open_for_both_is_written_to(loop: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    file = os.fdopen(os.open(tmp_path / "fifo", os.O_RDWR), "r+b", 0, closefd=True)
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    protocol = write_end(loop, file)
    protocol.transport.write(b"kept")
    loop.run_until_complete(asyncio.sleep(0.01))
    assert protocol.heard == ["made"]
    assert os.read(reader, 10) == b"kept"
    protocol.transport.close()
    over(loop, protocol)
    os.close(reader)
