"""Random uses of datagram endpoints: UDP, connected or not, and of a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from typing import Any

from .kit import Kit, told

ACTS = ["send", "send", "send", "send", "close", "abort", "limits", "is_closing", "extra", "nobody", "wrong"]


class Endpoint(asyncio.DatagramProtocol):
    """Notes what it hears, and raises now and then."""

    def __init__(self, kit: Kit, name: str) -> None:
        self.kit, self.name = kit, name
        self.transport: Any = None
        self.raises = kit.choose(None, None, None, "datagram_received", "error_received", "connection_lost", "connection_made")
        self.lost = asyncio.get_running_loop().create_future()

    def note(self, what: str, *more: Any) -> None:
        self.kit.note(self.name + " hears", what, *more)
        if what == self.raises:
            raise ZeroDivisionError(what)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.note("datagram_received", len(data), type(addr).__name__)

    def error_received(self, exc: Exception) -> None:
        self.note("error_received", told(exc))

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        self.note("connection_lost", None if exc is None else told(exc))


def act(kit: Kit, what: str, end: Endpoint, others: list[Any]) -> Any:
    transport = end.transport
    if what == "send":
        data: Any = bytes(kit.choose(1, 10, 1000, 9000))
        if kit.chance(0.2):
            data = kit.choose(bytearray, memoryview)(data)
        return transport.sendto(data, kit.choose(None, *others))
    if what == "nobody":
        # A port that nobody has, unless one is connected.
        return transport.sendto(b"x", ("127.0.0.1", 1))
    if what == "wrong":
        data, address = kit.choose(("text", None), (b"x", 5), (b"x", ("127.0.0.1",)), (None, None), (b"x", ("127.0.0.1", "x")), (bytes(100_000), None))
        return transport.sendto(data, address)
    if what == "limits":
        transport.set_write_buffer_limits(kit.choose(None, 0, 1, 1000, -1), kit.choose(None, 0, 500, -1))
        return transport.get_write_buffer_limits()
    if what == "extra":
        return type(transport.get_extra_info(kit.choose("peername", "sockname", "socket", "nothing"), 5)).__name__
    return getattr(transport, what)()


async def endpoint(kit: Kit, name: str, **where: Any) -> Endpoint:
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Endpoint(kit, name), **where)
    return protocol


async def internet(kit: Kit) -> tuple[list[Endpoint], list[Any]]:
    bound = await endpoint(kit, "a", local_addr=("127.0.0.1", 0))
    address = bound.transport.get_extra_info("sockname")
    if kit.chance(0.5):
        other = await endpoint(kit, "b", remote_addr=address)
    else:
        other = await endpoint(kit, "b", local_addr=("127.0.0.1", 0))
    nobody = await endpoint(kit, "c", remote_addr=("127.0.0.1", 1))
    return [bound, other, nobody], [address, other.transport.get_extra_info("sockname")]


async def unix(kit: Kit, place: str) -> tuple[list[Endpoint], list[Any]]:
    paths = [os.path.join(place, name) for name in "ab"]
    ends = [await endpoint(kit, name, local_addr=path, family=socket.AF_UNIX) for name, path in zip("ab", paths, strict=True)]
    return ends, paths


async def datagrams(kit: Kit) -> None:
    """Two or three endpoints in this process."""
    with contextlib.ExitStack() as stack:
        if kit.chance(0.7):
            ends, others = await internet(kit)
        else:
            ends, others = await unix(kit, stack.enter_context(tempfile.TemporaryDirectory()))
        await kit.settle()
        for _ in range(3 + kit.size(12)):
            end, what = kit.choose(*ends), kit.choose(*ACTS)
            result: Any
            try:
                result = act(kit, what, end, others)
            except Exception as error:
                result = told(error)
            kit.note(end.name + " does", what, result)
            await kit.settle(2)
        for end in ends:
            end.transport.close()
        for end in ends:
            await asyncio.wait_for(end.lost, 5)
