"""Files sent over stream transports."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from connections import connected

import tepal


def test_a_file_is_sent_behind_what_was_written(loop: Any, run: Any, tmp_path: Any) -> None:
    content = os.urandom(300_000)
    path = tmp_path / "file"
    path.write_bytes(content)

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        received = bytearray()

        def read() -> None:
            while len(received) < len(content) + 1:
                received.extend(theirs.recv(1 << 16))

        with path.open("rb") as file:
            transport.write(b"-")
            sending = loop.create_task(loop.sendfile(transport, file, 10, 200_000))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                transport.write(b"no")
            theirs.setblocking(False)
            while not sending.done() or len(received) < 200_001:
                try:
                    received.extend(theirs.recv(1 << 16))
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert await sending == 200_000
            assert file.tell() == 200_010
        assert received == b"-" + content[10:200_010]
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


@pytest.mark.parametrize("layered", [False, True])
def test_a_file_that_is_given_up_stops_where_it_is(loop: Any, run: Any, tmp_path: Any, layered: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(16 << 20))

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        theirs.setblocking(False)
        if layered:
            transport.push_layer(tepal.RateLimit(write=1 << 30))
        with path.open("rb") as file:
            sending = loop.create_task(loop.sendfile(transport, file, 10))
            count = len(await loop.sock_recv(theirs, 1))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            transport.close()
            while data := await loop.sock_recv(theirs, 1 << 16):
                count += len(data)
            assert file.tell() == 10 + count < 16 << 20
        await protocol.lost
        theirs.close()

    run(main())


@pytest.mark.parametrize("fallback", [False, True])
def test_sending_nothing_of_a_file_leaves_it_at_the_offset(loop: Any, run: Any, tmp_path: Any, fallback: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        with path.open("rb") as file:
            file.seek(2)
            assert await loop.sendfile(transport, file, 7, fallback=fallback) == 0
            assert file.tell() == 7
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())


def test_nothing_is_sent_of_what_has_no_size(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, protocol, theirs = await connected(loop)
        reads, writes = os.pipe()
        with open(reads, "rb") as file, open(writes, "wb"):
            assert await loop.sendfile(transport, file) == 0
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())
