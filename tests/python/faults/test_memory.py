"""Cycles through transports, protocols and loops are collected; what comes and goes leaves no memory behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
import weakref
from typing import Any

import pytest
from tls.peers import client_context, server_context

import tepal

from .sampling import SHARE

pytestmark = pytest.mark.usefixtures("ledger")


class Cyclic(asyncio.Protocol, asyncio.DatagramProtocol):
    """Refers to its transport, the loop, and itself."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.loop, self.itself = transport, asyncio.get_running_loop(), self
        transport.protocol = self


async def stream(loop: Any, sock: socket.socket) -> None:
    await loop.create_connection(Cyclic, sock=sock)


async def stack(loop: Any, sock: socket.socket) -> None:
    await loop.connect(Cyclic, sock=sock, layers=[tepal.Lines()]).established()


async def handshake(loop: Any, sock: socket.socket) -> None:
    loop.create_task(loop.connect_accepted_socket(Cyclic, sock, ssl=server_context()))
    await asyncio.sleep(0)


async def reaching(loop: Any, sock: socket.socket) -> None:
    sock.close()
    loop.connect(Cyclic, "name.invalid", 1, layers=[tepal.OpenSSL(client_context())])
    await asyncio.sleep(0)


async def datagrams(loop: Any, sock: socket.socket) -> None:
    sock.close()
    await loop.create_datagram_endpoint(Cyclic, local_addr=("127.0.0.1", 0))


async def server(loop: Any, sock: socket.socket) -> None:
    sock.close()
    loop.server = await loop.create_server(Cyclic, "127.0.0.1", 0)


# A coroutine that is collected closes its transport, and hears that the loop is closed, as on asyncio's.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [stream, stack, handshake, reaching, datagrams, server])
@pytest.mark.parametrize("closed", [True, False])
def test_a_loop_with_cycles_through_what_it_has_is_collected(kind, closed):
    ours, theirs = socket.socketpair()
    loop = tepal.new_event_loop()
    loop.set_debug(False)
    loop.run_until_complete(kind(loop, ours))
    gone = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if closed:
            loop.close()
        del loop, ours
        theirs.close()
        for _ in range(3):
            gc.collect()
    assert gone() is None


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("secured", [False, True])
def test_connections_that_come_and_go_leave_no_memory_behind(run, loop, secured):
    total = (5_000 if secured else 100_000) if SHARE else (100 if secured else 2_000)
    keywords = {"ssl": client_context(), "server_hostname": "server.test"} if secured else {}

    async def rounds(address: Any, count: int) -> None:
        for _ in range(count):
            transport, _ = await loop.create_connection(asyncio.Protocol, *address, **keywords)
            transport.abort()

    async def scene() -> None:
        made = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context() if secured else None)
        address = made.sockets[0].getsockname()
        await rounds(address, total // 4)
        gc.collect()
        before = resident()
        await rounds(address, total)
        gc.collect()
        # Far less than a connection is worth, which is some kilobytes.
        assert resident() - before < (1 << 20) + total * 20
        made.close()
        await made.wait_closed()

    loop.set_debug(False)
    loop.run_until_complete(asyncio.wait_for(scene(), 300))
    loop.reports.clear()  # A server that is handshaking hears of the abort.
