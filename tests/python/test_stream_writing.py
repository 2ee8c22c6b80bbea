"""Writing to stream transports: when bytes are copied and let go, pressure and marks."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import pytest
from connections import connected, drain, receive, until


def test_a_bytearray_that_changes_after_write_was_copied(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        data = bytearray(b"a" * 10_000)
        transport.write(data)
        transport.write(memoryview(data)[:3])
        data[:] = b"b" * 10_000
        del data[:]
        await asyncio.sleep(0)
        assert theirs.recv(20_000) == b"a" * 10_003
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


def test_bytes_are_let_go_once_they_have_left(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        data = bytes(3_000_000)
        before = sys.getrefcount(data)
        transport.write(data)
        assert sys.getrefcount(data) == before + 1, "it is kept and not copied"
        left = len(data)
        while left:
            left -= len(await receive(theirs))
        await until(lambda: not transport.get_write_buffer_size())
        assert sys.getrefcount(data) == before
        transport.write(data)
        transport.abort()
        assert sys.getrefcount(data) == before
        theirs.close()
        await protocol.lost

    run(main())


def test_pressure_is_told_inside_write_and_only_if_the_kernel_takes_no_more(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        for _ in range(40):
            transport.write(bytes(2000))
        assert "pause" not in protocol.events, "the kernel has room for that"
        transport.write(bytes(5_000_000))
        assert protocol.events[-1] == "pause"
        assert transport.get_write_buffer_size() > transport.get_write_buffer_limits()[1]
        reading = loop.create_task(drain(theirs))
        await until(lambda: protocol.events[-1] == "resume")
        reading.cancel()
        transport.abort()
        theirs.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "pause", "resume", "lost"]

    run(main())


def test_marks_follow_asyncios_rules(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=100)
        assert transport.get_write_buffer_limits() == (100, 400)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


@pytest.mark.parametrize("wrong", ["text", 1, None, [1], object()])
def test_write_refuses_what_is_no_buffer(loop: Any, run: Any, wrong: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        name = type(wrong).__name__
        with pytest.raises(TypeError, match=f"data argument must be a bytes-like object, not '{name}'"):
            transport.write(wrong)
        with pytest.raises(TypeError):
            transport.writelines([b"ok", wrong])
        transport.write_eof()
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
            transport.write(b"x")
        await asyncio.sleep(0)
        assert theirs.recv(10) == b"", "nothing of the refused was sent"
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


def test_what_is_written_can_be_named_as_asyncio_names_it(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            transport, _ = await any_loop.create_connection(asyncio.Protocol, sock=ours)
            transport.write(data=b"one")
            transport.writelines(list_of_data=[b"two", b"three"])
            transport.close()
            whole = b""
            while piece := await any_loop.sock_recv(theirs, 100):
                whole += piece
            assert whole == b"onetwothree"
            for call in (
                lambda: transport.write(),
                lambda: transport.write(b"", b""),
                lambda: transport.write(b"", data=b""),
                lambda: transport.write(text=b""),
                lambda: transport.writelines(),
                lambda: transport.writelines([], data=[]),
            ):
                with pytest.raises(TypeError, match=r"write(lines)?\(\) (missing|takes|got)"):
                    call()

    any_loop.run_until_complete(main())
