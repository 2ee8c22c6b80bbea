"""Random calls of both ends of a stream connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from .kit import Kit, told

ACTS = [
    "write", "write", "write", "big", "writelines", "write_eof", "close", "abort", "pause_reading", "resume_reading",
    "limits", "extra", "is_reading", "is_closing", "set_protocol", "empty",
]  # fmt: skip


class End(asyncio.Protocol):
    """Notes what it hears."""

    def __init__(self, kit: Kit, name: str) -> None:
        self.kit, self.name, self.got = kit, name, 0
        self.keeps = kit.choose(True, False, None)
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, *what: Any) -> None:
        self.kit.note(self.name + " hears", *what)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes and data
        if not self.got:
            self.note("first")
        self.got += len(data)

    def eof_received(self) -> bool | None:
        self.note("eof", self.got)
        return self.keeps  # type: ignore[no-any-return]

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, error: BaseException | None) -> None:
        # EPIPE or ECONNRESET: the kernel says what it was asked first.
        self.note("lost", "ConnectionError" if isinstance(error, ConnectionError) else type(error).__name__)
        if not self.lost.done():
            self.lost.set_result(None)


def act(kit: Kit, what: str, end: End) -> Any:
    """Does one thing with a transport. Returns what that returned."""
    transport = end.transport
    if what == "write":
        return transport.write(kit.random.randbytes(1 + kit.size(3000)))
    if what == "big":
        return transport.write(memoryview(bytes(100_000 + kit.size(800_000))))
    if what == "empty":
        return transport.write(kit.choose(b"", bytearray(), memoryview(b"")))
    if what == "writelines":
        return transport.writelines([bytes(kit.size(50)) for _ in range(kit.size(5))])
    if what == "limits":
        high, low = kit.choose(None, 0, 1, 1000, 65536, -1), kit.choose(None, 0, 1, 500, 70000, -1)
        transport.set_write_buffer_limits(high, low)
        return transport.get_write_buffer_limits()
    if what == "extra":
        key = kit.choose("peername", "sockname", "nothing", "socket")
        return type(transport.get_extra_info(key, 5)).__name__
    if what == "set_protocol":
        return transport.set_protocol(transport.get_protocol() or end)
    return getattr(transport, what)()


async def transports(kit: Kit) -> None:
    """Two ends in this process, of a TCP connection, a Unix one, or a pair of sockets."""
    loop = asyncio.get_running_loop()
    ends = [End(kit, name) for name in "ab"]
    kind = kit.choose("tcp", "unix", "pair")
    server: Any = None
    if kind == "pair":
        for end, sock in zip(ends, socket.socketpair(), strict=True):
            await loop.create_connection(lambda end=end: end, sock=sock)  # type: ignore[misc]
    elif kind == "tcp":
        server = await loop.create_server(lambda: ends[1], "127.0.0.1", 0)
        await loop.create_connection(lambda: ends[0], *server.sockets[0].getsockname())
    else:
        path = f"\0programs-{id(kit)}"
        server = await loop.create_unix_server(lambda: ends[1], path)
        await loop.create_unix_connection(lambda: ends[0], path)
    await kit.settle()
    for _ in range(3 + kit.size(11)):
        end, what = kit.choose(*ends), kit.choose(*ACTS)
        result: Any
        try:
            result = act(kit, what, end)
        except Exception as error:
            result = told(error)
            if "[Errno 107]" in result[1]:
                # Whether the peer has gone already is the kernel's to say.
                result = None
        kit.note(end.name + " does", what, result)
        if kit.chance(0.6):
            await kit.settle(kit.choose(1, 6))
    await kit.settle(10)
    for end in ends:
        end.transport.close()
    await kit.settle(10)
    for end in ends:
        end.transport.abort()
    for end in ends:
        await asyncio.wait_for(end.lost, 5)
    if server:
        server.close()
        await server.wait_closed()
