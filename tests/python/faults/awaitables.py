"""Everything that can be awaited, each in a place where it would end by itself; for tests that cut it short."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from tls.peers import client_context, server_context

import tepal

from .hostile_values import Scene

SIZE = 3 << 20


class Place(Scene):
    """A loop and what the awaited thing meets: peers that answer, files, a list of what is to be undone."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.undo: list[Callable[[], Any]] = []

    def ours(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        return self.pair(kind)

    @property
    def peer(self) -> socket.socket:
        """The other end of the socket that was made last."""
        return self.owned[-1]  # type: ignore[no-any-return]

    def listener(self, family: int = socket.AF_INET) -> socket.socket:
        sock = self.own(socket.socket(family))
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else "")
        sock.listen()
        sock.setblocking(False)
        return sock

    def terminal(self) -> Any:
        ours, theirs = os.openpty()
        self.own(os.fdopen(theirs, "wb", 0))
        return self.own(os.fdopen(ours, "r+b", 0))

    def file(self) -> Any:
        made = self.own(tempfile.TemporaryFile())  # noqa: SIM115 (closed with the place)
        made.write(bytes(SIZE))
        made.seek(0)
        return made

    async def server(self, **keywords: Any) -> Any:
        server = await self.loop.create_server(Echo, "127.0.0.1", 0, **keywords)
        self.undo.append(server.close)
        if not server.sockets:
            raise OSError("a server of nothing, as asyncio makes it without descriptors")
        return server.sockets[0].getsockname()

    async def close_all(self) -> None:
        for undo in reversed(self.undo):
            result = undo()
            if hasattr(result, "__await__"):
                await result
        self.close()


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def drain(place: Place, sock: socket.socket) -> None:
    """Has whatever comes on it read away."""

    def read() -> None:
        try:
            if not sock.recv(1 << 20):
                place.loop.remove_reader(sock)
        except BlockingIOError:
            pass
        except OSError:
            place.loop.remove_reader(sock)

    place.loop.add_reader(sock, read)
    place.undo.append(lambda: place.loop.remove_reader(sock))


async def sock_recv(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    place.loop.call_soon(place.loop.call_soon, theirs.send, b"data")
    return await place.loop.sock_recv(ours, 10)


async def sock_recv_into(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    place.loop.call_soon(place.loop.call_soon, theirs.send, b"data")
    return await place.loop.sock_recv_into(ours, bytearray(10))


async def sock_recvfrom(place: Place) -> Any:
    ours, theirs = place.ours(socket.SOCK_DGRAM), place.peer
    place.loop.call_soon(place.loop.call_soon, theirs.send, b"data")
    return await place.loop.sock_recvfrom(ours, 10)


async def sock_accept(place: Place) -> Any:
    ours = place.listener()
    client = place.own(socket.socket())
    client.setblocking(False)
    place.loop.call_soon(place.loop.call_soon, client.connect_ex, ours.getsockname())
    return (await place.loop.sock_accept(ours))[0]


async def sock_sendall(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    drain(place, theirs)
    return await place.loop.sock_sendall(ours, bytes(SIZE))


async def sock_connect(place: Place) -> Any:
    ours = place.own(socket.socket())
    ours.setblocking(False)
    return await place.loop.sock_connect(ours, place.listener().getsockname())


async def sock_sendfile(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    drain(place, theirs)
    return await place.loop.sock_sendfile(ours, place.file())


async def create_connection(place: Place) -> Any:
    return (await place.loop.create_connection(asyncio.Protocol, *place.listener().getsockname()))[0]


async def create_connection_by_name(place: Place) -> Any:
    port = place.listener().getsockname()[1]
    return (await place.loop.create_connection(asyncio.Protocol, "localhost", port))[0]


async def create_connection_in_a_race(place: Place) -> Any:
    port = place.listener().getsockname()[1]
    return (
        await place.loop.create_connection(asyncio.Protocol, "localhost", port, happy_eyeballs_delay=0.001)
    )[0]


async def create_connection_with_ssl(place: Place) -> Any:
    host, port = await place.server(ssl=server_context())
    made = place.loop.create_connection(
        asyncio.Protocol, host, port, ssl=client_context(), server_hostname="server.test"
    )
    return (await made)[0]


async def create_connection_of_a_socket(place: Place) -> Any:
    ours = place.ours()
    try:
        return (await place.loop.create_connection(asyncio.Protocol, sock=ours))[0]
    finally:
        place.owned.remove(ours)


async def connect_accepted_with_ssl(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    client = place.loop.create_task(
        place.loop.create_connection(
            asyncio.Protocol, sock=theirs, ssl=client_context(), server_hostname="server.test"
        )
    )
    place.undo.append(lambda: end(client))
    return (await place.loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=server_context()))[0]


async def end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    done = (await asyncio.gather(task, return_exceptions=True))[0]
    if isinstance(done, tuple):
        done[0].abort()


async def start_tls(place: Place) -> Any:
    ours = place.ours()
    theirs = place.peer
    peer, _ = await place.loop.create_connection(asyncio.Protocol, sock=theirs)
    place.undo.append(peer.abort)
    upgraded = place.loop.create_task(
        place.loop.start_tls(peer, peer.get_protocol(), server_context(), server_side=True)
    )
    place.undo.append(lambda: asyncio.gather(upgraded, return_exceptions=True))
    transport, protocol = await place.loop.create_connection(asyncio.Protocol, sock=ours)
    place.undo += [upgraded.cancel, transport.abort]
    return await place.loop.start_tls(transport, protocol, client_context(), server_hostname="server.test")


async def create_server(place: Place) -> Any:
    return await place.loop.create_server(Echo, "127.0.0.1", 0)


async def create_unix_connection(place: Place) -> Any:
    listener = place.listener(socket.AF_UNIX)
    return (await place.loop.create_unix_connection(asyncio.Protocol, listener.getsockname()))[0]


async def create_datagram_endpoint(place: Place) -> Any:
    made = place.loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("localhost", 0))
    return (await made)[0]


async def connect_read_pipe(place: Place) -> Any:
    pipe = place.pipe(0)
    return (await place.loop.connect_read_pipe(asyncio.Protocol, pipe))[0]


async def connect_write_pipe(place: Place) -> Any:
    pipe = place.pipe(1)
    return (await place.loop.connect_write_pipe(asyncio.Protocol, pipe))[0]


async def read_terminal(place: Place) -> Any:
    return (await place.loop.connect_read_pipe(asyncio.Protocol, place.terminal()))[0]


async def write_terminal(place: Place) -> Any:
    return (await place.loop.connect_write_pipe(asyncio.Protocol, place.terminal()))[0]


async def getaddrinfo(place: Place) -> Any:
    return await place.loop.getaddrinfo("localhost", 80)


async def getnameinfo(place: Place) -> Any:
    return await place.loop.getnameinfo(("127.0.0.1", 80))


async def subprocess_exec(place: Place) -> Any:
    return (await place.loop.subprocess_exec(asyncio.SubprocessProtocol, "true"))[0]


async def communicate(place: Place) -> Any:
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    place.undo.append(child.wait)
    try:
        return await child.communicate(b"data")
    finally:
        if child.returncode is None:
            child.kill()


async def sendfile(place: Place) -> Any:
    ours, theirs = place.ours(), place.peer
    place.owned.remove(ours)
    drain(place, theirs)
    transport, _ = await place.loop.create_connection(asyncio.Protocol, sock=ours)
    place.undo.append(transport.abort)
    return await place.loop.sendfile(transport, place.file())


async def open_connection(place: Place) -> Any:
    reader, writer = await asyncio.open_connection(*await place.server())
    # Not by close(), which would first send what a cancelled drain() has left; and it keeps the writer.
    place.undo.append(lambda: writer.transport.abort())
    writer.write(bytes(SIZE))
    await writer.drain()
    return len(await reader.readexactly(SIZE))


async def wait_closed(place: Place) -> Any:
    _, writer = await asyncio.open_connection(*await place.server())
    writer.close()
    return await writer.wait_closed()


async def run_in_executor(place: Place) -> Any:
    return await place.loop.run_in_executor(None, int)


async def shutdown_default_executor(place: Place) -> Any:
    await place.loop.run_in_executor(None, int)
    return await place.loop.shutdown_default_executor()


async def shutdown_asyncgens(place: Place) -> Any:
    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    generator = numbers()
    await anext(generator)
    return await place.loop.shutdown_asyncgens()


async def wait_for(place: Place) -> Any:
    return await asyncio.wait_for(sock_recv(place), 10)


# ---- what only tepal has


async def established(place: Place) -> Any:
    transport = place.loop.connect(tepal.Protocol, *place.listener().getsockname())
    place.undo.append(transport.abort)
    return await transport.established()


async def established_with_layers(place: Place) -> Any:
    server = await place.loop.listen(Echo, "127.0.0.1", 0, layers=[tepal.OpenSSL(server_context()), tepal.Lines()])
    place.undo.append(lambda: server.drain(0))
    layers = [tepal.OpenSSL(client_context(), "server.test"), tepal.Lines()]
    transport = place.loop.connect(tepal.Protocol, *server.sockets[0].getsockname(), layers=layers)
    place.undo.append(transport.abort)
    return await transport.established()


async def create_connection_with_layers(place: Place) -> Any:
    address = place.listener().getsockname()
    return (await place.loop.create_connection(asyncio.Protocol, *address, layers=[tepal.Lines()]))[0]


async def listen_and_drain(place: Place) -> Any:
    server = await place.loop.listen(Echo, "127.0.0.1", 0)
    place.undo.append(lambda: server.drain(0))
    client = place.loop.connect(tepal.Protocol, *server.sockets[0].getsockname())
    place.undo.append(client.abort)
    await client.established()
    place.loop.call_later(0.005, client.close)
    return await server.drain(5)


async def pop_layer(place: Place) -> Any:
    ours = place.ours()
    place.owned.remove(ours)
    transport = place.loop.connect(tepal.Protocol, sock=ours, layers=[tepal.Lines()])
    place.undo.append(transport.abort)
    await transport.established()
    return await transport.pop_layer()


async def join(place: Place) -> Any:
    ends = []
    for _ in range(2):
        ours = place.ours()
        place.owned.remove(ours)
        ends.append(place.loop.connect(tepal.Protocol, sock=ours))
        place.undo.append(ends[-1].abort)
        await ends[-1].established()
    theirs = place.owned[-1]
    place.loop.call_soon(place.loop.call_soon, theirs.close)
    return await ends[0].join(ends[1])


Awaitable = Callable[[Place], Coroutine[Any, Any, Any]]
_HERE = sys.modules[__name__]
AWAITABLES: dict[str, Awaitable] = {
    name: thing
    for name, thing in list(vars(_HERE).items())
    if inspect.isfunction(thing) and inspect.iscoroutinefunction(thing) and name != "end"
}
