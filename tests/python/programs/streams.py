"""Random uses of asyncio's streams, some of them cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

from .kit import Kit


async def read(kit: Kit, who: str, reader: asyncio.StreamReader) -> None:
    what = kit.choose("readline", "readuntil", "readexactly", "read")
    if what == "readline":
        wait: Any = reader.readline()
    elif what == "readuntil":
        wait = reader.readuntil(kit.choose(b"\n", b"xx", b"\r\n\r\n"))
    elif what == "readexactly":
        wait = reader.readexactly(kit.choose(0, 1, 10, 3000))
    else:
        wait = reader.read(kit.choose(1, 100_000))
    # How many bytes one `read` finds is the kernel's to say.
    await kit.outcome(who, what, wait, lambda data: bool(data) if what == "read" else len(data))


async def write(kit: Kit, who: str, writer: asyncio.StreamWriter) -> None:
    what = kit.choose("line", "line", "lines", "block", "drain", "write_eof", "can_write_eof", "is_closing", "close")
    async with kit.noting(who, what):
        if what == "line":
            writer.write(b"x" * kit.size(200) + b"\n")
        elif what == "lines":
            writer.writelines(bytes([120]) * kit.size(30) + b"\n" for _ in range(kit.size(4)))
        elif what == "block":
            writer.write(b"x" * kit.choose(0, 1, 70_000, 200_000))
        elif what == "drain":
            await kit.outcome(who, what, writer.drain())
        else:
            kit.note(who, what, getattr(writer, what)())


async def talk(kit: Kit, who: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: asyncio.StreamWriter) -> None:
    for _ in range(kit.size(6)):
        await write(kit, who, writer)
        await kit.settle(2)
    if kit.chance(0.5):
        # Nobody waits for ever.
        peer.close()
        await kit.settle(4)
        await read(kit, who, reader)


async def streams(kit: Kit) -> None:
    """A client and a server, one after the other, so that their choices have one order."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    limit = kit.choose(2**16, 100, 1)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=limit)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=limit)
    peer_reader, peer_writer = await asyncio.wait_for(accepted, 5)
    for _ in range(2):
        await talk(kit, "client", reader, writer, peer_writer)
        await kit.settle(4)
        await talk(kit, "server", peer_reader, peer_writer, writer)
        await kit.settle(4)
    for who, one in (("client", writer), ("server", peer_writer)):
        if kit.chance(0.2):
            one.transport.abort()
        one.close()
        await kit.settle(4)
        await kit.outcome(who, "wait_closed", one.wait_closed())
    server.close()
    await server.wait_closed()
