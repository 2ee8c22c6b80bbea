"""Calls from threads that are not the loop's: as asyncio has them, and never unsafe."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")

WRONG_THREAD = "Non-thread-safe operation invoked on an event loop other than the current one"
# No wait of a test takes this long unless something is lost.
LIMIT = 10.0


def elsewhere(loop: Any, act: Callable[[], Any]) -> Any:
    """Runs `act` in another thread while the loop sleeps; what it returned or raised."""
    ended: list[Any] = []

    def other() -> None:
        try:
            ended.append(act())
        except BaseException as error:
            ended.append(error)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    # Begun by a callback: the loop runs.
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    return ended[0]


def pair(loop: Any, protocol: Callable[[], asyncio.Protocol] = asyncio.Protocol) -> tuple[Any, Any, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(LIMIT)
    transport, made = loop.run_until_complete(loop.create_connection(protocol, sock=ours))
    return transport, made, theirs


def finish(loop: Any, transport: Any, theirs: socket.socket) -> None:
    transport.abort()
    theirs.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))


def test_what_another_thread_writes_leaves_while_the_loop_sleeps(any_loop: Any) -> None:
    transport, _, theirs = pair(any_loop)

    def act() -> bytes:
        transport.write(b"one")
        return theirs.recv(10)

    assert elsewhere(any_loop, act) == b"one"
    assert elsewhere(any_loop, lambda: (transport.writelines([b"t", b"wo"]), theirs.recv(1)))[1] == b"t"
    finish(any_loop, transport, theirs)


def test_a_transport_that_another_thread_closes_ends_while_the_loop_sleeps(bare_loop: Any) -> None:
    # asyncio's loop would end it when something else wakes it.
    transport, _, theirs = pair(bare_loop)

    def act() -> bytes:
        transport.close()
        return theirs.recv(10)

    assert elsewhere(bare_loop, act) == b""
    finish(bare_loop, transport, theirs)


def test_datagrams_of_another_thread_leave_while_the_loop_sleeps(any_loop: Any) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(LIMIT)
    made = any_loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=sock.getsockname())
    transport, _ = any_loop.run_until_complete(made)

    def act() -> bytes:
        transport.sendto(b"datagram")
        return sock.recv(20)

    assert elsewhere(any_loop, act) == b"datagram"
    finish(any_loop, transport, sock)


@pytest.mark.parametrize("method", ["close", "abort"])
def test_debug_mode_refuses_the_end_of_a_transport_by_another_thread(bare_loop: Any, method: str) -> None:
    # As asyncio does, whose transport is neither open nor ever closed afterwards.
    transport, _, theirs = pair(bare_loop)
    bare_loop.set_debug(True)
    error = elsewhere(bare_loop, getattr(transport, method))
    bare_loop.set_debug(False)
    assert isinstance(error, RuntimeError) and str(error) == WRONG_THREAD
    assert not transport.is_closing()
    finish(bare_loop, transport, theirs)


def acts(loop: Any, transport: Any, theirs: socket.socket) -> dict[str, Callable[[], Any]]:
    timer = loop.timer(1000.0, print)
    watcher = loop.watch(theirs, tepal.READ, print)
    return {
        "timer": timer.start,
        "watcher": watcher.start,
        "push_layer": lambda: transport.push_layer(tepal.Lines()),
        "pop_layer": lambda: transport.pop_layer("lines"),
        "send_command": lambda: transport.command("lines", "raw"),
        "connect": lambda: loop.connect(asyncio.Protocol, "127.0.0.1", 9),
    }


@pytest.mark.parametrize("what", ["timer", "watcher", "push_layer", "pop_layer", "send_command", "connect"])
def test_debug_mode_refuses_what_is_ours_in_another_thread(bare_loop: Any, what: str) -> None:
    transport, _, theirs = pair(bare_loop)
    act = acts(bare_loop, transport, theirs)[what]
    bare_loop.set_debug(True)
    error = elsewhere(bare_loop, act)
    bare_loop.set_debug(False)
    assert isinstance(error, RuntimeError) and str(error) == WRONG_THREAD
    finish(bare_loop, transport, theirs)


def test_threads_that_do_everything_at_once_break_nothing(bare_loop: Any) -> None:
    """Without debug mode all of it is accepted. The bytes of each thread keep their order."""
    count, threads = 200, 4

    class Collect(asyncio.Protocol):
        def __init__(self) -> None:
            self.seen = bytearray()

        def data_received(self, data: bytes) -> None:
            self.seen += data

    transport, _, theirs = pair(bare_loop)
    theirs.settimeout(None)
    theirs.setblocking(False)
    other_end, collect = bare_loop.run_until_complete(bare_loop.create_connection(Collect, sock=theirs))
    left = threads

    def done() -> None:
        nonlocal left
        left -= 1

    def work(number: int) -> None:
        for turn in range(count):
            transport.write(bytes([number]) + turn.to_bytes(2, "big"))
            other_end.pause_reading()
            transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=turn + 1)
            bare_loop.call_later(1000.0, print).cancel()
            timer = bare_loop.timer(1000.0, print)
            timer.start()
            timer.stop()
            other_end.resume_reading()
            repr(transport)
        bare_loop.call_soon_threadsafe(done)

    async def main() -> None:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        while left or len(collect.seen) < 3 * count * threads:
            await asyncio.sleep(0.001)
        for worker in workers:
            worker.join()

    bare_loop.run_until_complete(asyncio.wait_for(main(), LIMIT * 3))
    records = [bytes(collect.seen[at : at + 3]) for at in range(0, len(collect.seen), 3)]
    for number in range(threads):
        mine = [int.from_bytes(record[1:], "big") for record in records if record[0] == number]
        assert mine == list(range(count))
    transport.abort()
    other_end.abort()
    bare_loop.run_until_complete(asyncio.sleep(0.01))
