"""Frames, from Python: each write is one, also an empty one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import tepal

from .conftest import Pair, Recorder, client_tls, server_tls

FRAMINGS = [tepal.Lines(), tepal.LengthPrefixed(), tepal.Netstrings()]


class Frames(Recorder):
    """Notes each frame by itself."""

    def __init__(self) -> None:
        super().__init__(lambda protocol, data: protocol.note(bytes(data)))


class LentFrames(tepal.Protocol, asyncio.BufferedProtocol):  # type: ignore[misc]
    """The same with memory of its own: a frame without bytes fills none of it."""

    def __init__(self, seen: list[bytes]) -> None:
        self.seen = seen
        self.buffer = bytearray(64)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.seen.append(bytes(self.buffer[:count]))


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
def test_an_empty_write_is_an_empty_frame(run: Any, framing: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls(), framing], [server_tls(), framing], server=Frames)
        transport = pair.client.transport
        transport.write(b"")
        await pair.server.until_event(b"")
        transport.write(bytearray())
        transport.writelines([b"a", b"", memoryview(b"b")])
        transport.write(memoryview(b""))
        transport.write(b"end")
        await pair.server.until_event(b"end")
        frames = [event for event in pair.server.events if isinstance(event, bytes)]
        assert frames == [b"", b"", b"a", b"", b"b", b"", b"end"]
        assert await pair.close() == (None, None)

    run(main())


def test_an_empty_write_is_nothing_where_no_layer_makes_frames(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([client_tls()], [server_tls()], server=Frames)
        pair.client.transport.write(b"")
        pair.client.transport.writelines([b"", b"end", b""])
        await pair.server.until_event(b"end")
        assert b"" not in pair.server.events
        await pair.close()

    run(main())


def test_an_empty_write_behind_a_close_is_nothing(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make([tepal.Lines()], [tepal.Lines()], server=Frames)
        pair.client.transport.write(b"end")
        pair.client.transport.close()
        pair.client.transport.write(b"")
        await pair.server.lost
        assert [event for event in pair.server.events if isinstance(event, bytes)] == [b"end"]
        await pair.client.lost
        pair.listener.close()

    run(main())


def test_an_empty_frame_is_told_to_a_protocol_that_lends_memory(run: Any) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        loop: Any = asyncio.get_running_loop()
        layers = [tepal.Lines()]
        server = await loop.listen(lambda: LentFrames(seen), "127.0.0.1", 0, layers=layers)
        port = server.sockets[0].getsockname()[1]
        client = loop.connect(Recorder, "127.0.0.1", port, layers=layers)
        await client.established()
        client.writelines([b"a", b"", b"b"])
        client.close()
        await client.get_protocol().lost
        await server.drain(1)
        assert seen == [b"a", b"", b"b"]

    run(main())


def test_a_stream_reader_does_not_take_an_empty_frame_for_the_end(run: Any) -> None:
    async def main() -> None:
        got: list[bytes] = []
        loop: Any = asyncio.get_running_loop()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.append(await reader.read(64))
            writer.close()

        def factory() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), serve, loop=loop)

        layers = [tepal.Lines()]
        server = await loop.create_server(factory, "127.0.0.1", 0, layers=layers)
        port = server.sockets[0].getsockname()[1]
        client = loop.connect(Recorder, "127.0.0.1", port, layers=layers)
        protocol = client.get_protocol()
        await client.established()
        # The reader waits already, and each write is a segment of its own.
        for line in (b"", b"", b"text"):
            client.write(line)
            await asyncio.sleep(0.01)
        await protocol.lost
        server.close()
        await server.wait_closed()
        assert got == [b"text"]

    run(main())
