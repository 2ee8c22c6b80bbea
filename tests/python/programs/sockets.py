"""Random uses of plain sockets by `sock_recv` and its kin, of readers and writers, and of threads."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
import time
from typing import Any

from .kit import Kit

ACTS = [
    "recv", "recv_into", "sendall", "sendall", "recvfrom", "sendto", "sendfile", "accept", "connect", "reader", "writer", "no reader",
    "no writer", "close", "shutdown", "executor", "signal", "raise signal",
]  # fmt: skip


class Sockets:
    """One program over a pair of sockets, or two of datagrams, or one that listens."""

    def __init__(self, kit: Kit) -> None:
        self.kit, self.loop = kit, asyncio.get_running_loop()
        kind = kit.choose(socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
        self.pair = socket.socketpair(type=kind)
        self.listens = socket.create_server(("127.0.0.1", 0))
        self.made: list[socket.socket] = []
        for sock in (*self.pair, self.listens):
            sock.setblocking(False)

    def ready(self, what: str, sock: socket.socket) -> None:
        """Of a reader or writer, once: it would be called again and again."""
        self.kit.note("ready", what, self.pair.index(sock))
        self.loop.remove_reader(sock) if what == "reads" else self.loop.remove_writer(sock)
        if self.kit.chance(0.2):
            raise ZeroDivisionError(what)

    def work(self) -> int:
        time.sleep(0.001)
        if self.kit.chance(0.2):
            raise ZeroDivisionError("work")
        return 5

    async def accept(self) -> str:
        accepted, address = await self.loop.sock_accept(self.listens)
        self.made.append(accepted)
        return f"{type(address).__name__} {accepted.getblocking()}"

    async def connect(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        self.made.append(sock)
        await self.loop.sock_connect(sock, self.kit.choose(self.listens.getsockname(), ("127.0.0.1", 1), ("localhost", 1), ("127.0.0.1", "x")))

    async def act(self, what: str, sock: socket.socket) -> Any:
        kit, loop = self.kit, self.loop
        if what == "recv":
            return len(await loop.sock_recv(sock, kit.choose(1, 100, 100_000)))
        if what == "recv_into":
            return await loop.sock_recv_into(sock, kit.choose(bytearray(10), memoryview(bytearray(5)), bytearray()))
        if what == "sendall":
            return await loop.sock_sendall(sock, kit.choose(b"", b"x" * 10, bytearray(1000), memoryview(b"abcdef")[::1], bytes(600_000), "text"))
        if what == "recvfrom":
            return len((await loop.sock_recvfrom(sock, 100))[0])
        if what == "sendto":
            return await loop.sock_sendto(sock, b"datagram", kit.choose(("127.0.0.1", 1), "\0nobody-has-this", None))
        if what == "sendfile":
            with tempfile.TemporaryFile() as file:
                file.write(bytes(1000))
                file.seek(0)
                sent = await loop.sock_sendfile(sock, file, kit.choose(0, 10, 2000), kit.choose(None, 5))
                return sent, file.tell()
        if what in ("accept", "connect"):
            return await getattr(self, what)()
        if what in ("reader", "writer"):
            add = loop.add_reader if what == "reader" else loop.add_writer
            return add(kit.choose(sock, sock.fileno()), self.ready, what[:-2] + "s", sock)
        if what in ("no reader", "no writer"):
            remove = loop.remove_reader if what == "no reader" else loop.remove_writer
            return remove(sock)
        if what == "executor":
            return await loop.run_in_executor(None, self.work)
        if what == "signal":
            if kit.chance(0.3):
                return loop.remove_signal_handler(signal.SIGUSR1)
            return loop.add_signal_handler(signal.SIGUSR1, kit.note, "signal", kit.size(100))
        if what == "raise signal":
            loop.add_signal_handler(signal.SIGUSR1, kit.note, "signal", "raised")
            return signal.raise_signal(signal.SIGUSR1)
        if what == "shutdown":
            return sock.shutdown(kit.choose(socket.SHUT_RD, socket.SHUT_WR))
        return None

    async def run(self) -> None:
        kit = self.kit
        for _ in range(4 + kit.size(12)):
            what, sock = kit.choose(*ACTS), kit.choose(*self.pair)
            name = "ab"[self.pair.index(sock)]
            if what == "close" and kit.chance(0.3):
                self.loop.remove_reader(sock)
                self.loop.remove_writer(sock)
                sock.close()
            # How many turns these take is not said anywhere.
            cancels = what not in ("sendfile", "connect", "executor")
            await kit.outcome(name, what, self.act(what, sock), cancels=cancels)
            await kit.settle(2)
        for sock in self.pair:
            if sock.fileno() >= 0:
                kit.note("left", self.loop.remove_reader(sock), self.loop.remove_writer(sock))
        self.loop.remove_signal_handler(signal.SIGUSR1)
        for sock in (*self.pair, self.listens, *self.made):
            sock.close()


async def sockets(kit: Kit) -> None:
    """See `Sockets`."""
    await Sockets(kit).run()
