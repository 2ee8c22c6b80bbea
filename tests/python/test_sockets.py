"""`sock_recv` and its kin, and connections to addresses in digits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import tepal


class Recorder(asyncio.Protocol):
    """Keeps how it ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost = loop.create_future()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    yield one, other
    one.close()
    other.close()


@pytest.mark.parametrize("turns", range(5))
def test_a_receive_that_is_cancelled_takes_nothing(loop: Any, run: Any, pair: Any, turns: int) -> None:
    one, other = pair

    async def main() -> None:
        task = loop.create_task(loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        other.send(b"abc")
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        [first] = await asyncio.gather(task, return_exceptions=True)
        assert not loop.remove_reader(one), "it watches no longer"
        if first != b"abc":
            assert isinstance(first, asyncio.CancelledError)
            assert await loop.sock_recv(one, 100) == b"abc"

    run(main())


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_a_number_that_is_used_again_serves_the_new_socket(loop: Any, run: Any, pair: Any, when: str) -> None:
    """The kernel forgets a closed socket by itself, and knows nothing of the new one."""
    one, other = pair

    async def main() -> None:
        gone, end = socket.socketpair()
        gone.setblocking(False)
        number = gone.fileno()
        task = loop.create_task(loop.sock_recv(gone, 100))
        await asyncio.sleep(0)
        if when == "before":
            task.cancel()
        gone.close()
        os.dup2(one.fileno(), number)
        again = socket.socket(fileno=number)
        again.setblocking(False)
        received = loop.create_task(loop.sock_recv(again, 3))
        await asyncio.sleep(0)
        if when == "after":
            task.cancel()
            await asyncio.sleep(0)
        other.send(b"abc")
        assert await received == b"abc"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        again.close()
        end.close()

    run(main())


@pytest.mark.parametrize("user", ["reader", "watcher", "transport"])
def test_a_socket_that_was_waited_for_serves_who_comes_next(loop: Any, run: Any, pair: Any, user: str) -> None:
    one, other = pair

    async def main() -> None:
        for _ in range(2):
            receiving = loop.create_task(loop.sock_recv(one, 100))
            await asyncio.sleep(0.01)
            other.send(b"received")
            assert await receiving == b"received"
        heard = loop.create_future()

        class Hears(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                heard.set_result(data)

        if user == "reader":
            loop.add_reader(one, lambda: heard.set_result(one.recv(100)))
        elif user == "watcher":
            watcher = loop.watch(one, tepal.READ, lambda events: heard.set_result(one.recv(100)))
            watcher.start()
        else:
            transport, _ = await loop.create_connection(Hears, sock=one)
        other.send(b"heard")
        assert await heard == b"heard"
        if user == "transport":
            transport.close()
            await asyncio.sleep(0)
            return
        assert loop.remove_reader(one) if user == "reader" else watcher.stop() is None
        receiving = loop.create_task(loop.sock_recv(one, 100))
        await asyncio.sleep(0.01)
        other.send(b"again")
        assert await receiving == b"again"

    run(main())


def test_both_directions_of_a_socket_can_wait_at_once(loop: Any, run: Any, pair: Any) -> None:
    one, other = pair

    async def main() -> None:
        received = loop.create_task(loop.sock_recv(one, 100))
        data = bytes(4 << 20)
        sent = loop.create_task(loop.sock_sendall(one, data))
        await asyncio.sleep(0)
        await loop.sock_sendall(other, b"abc")
        assert await received == b"abc"
        left = len(data)
        while left:
            left -= len(await loop.sock_recv(other, 1 << 20))
        await sent

    run(main())


def test_a_second_receive_takes_the_place_of_the_first(any_loop: asyncio.AbstractEventLoop, pair: Any) -> None:
    one, other = pair

    async def main() -> None:
        first = any_loop.create_task(any_loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        second = any_loop.create_task(any_loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        other.send(b"abc")
        assert await asyncio.wait_for(second, 5) == b"abc"
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    any_loop.run_until_complete(main())


def test_a_reader_and_a_receive_take_each_others_place(any_loop: asyncio.AbstractEventLoop, pair: Any) -> None:
    one, other = pair

    async def main() -> None:
        heard: list[bytes] = []
        any_loop.add_reader(one, lambda: heard.append(one.recv(100)))
        received = any_loop.create_task(any_loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        other.send(b"abc")
        assert await asyncio.wait_for(received, 5) == b"abc"
        assert heard == []
        assert not any_loop.remove_reader(one)
        received = any_loop.create_task(any_loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        assert any_loop.remove_reader(one)
        other.send(b"def")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not received.done()
        received.cancel()
        await asyncio.gather(received, return_exceptions=True)

    any_loop.run_until_complete(main())


def test_a_receive_that_is_let_go_behind_the_loop_ends_quietly(pair: Any, program: Any) -> None:
    done = program(
        "import asyncio, gc, socket, tepal\n"
        "one, other = socket.socketpair()\n"
        "one.setblocking(False)\n"
        "loop = tepal.new_event_loop()\n"
        "waiting = loop.sock_recv(one, 100)\n"
        "async def main():\n"
        "    waiting.send(None)\n"
        "loop.run_until_complete(main())\n"
        "loop.close()\n"
        "waiting.close()\n"
        "one.close(); other.close()\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_futures_of_a_receive_are_the_loops(pair: Any) -> None:
    import tepal

    one, other = pair
    made = []

    class Own(tepal.Loop):
        def create_future(self) -> asyncio.Future[Any]:
            made.append(super().create_future())
            return made[-1]

    async def main() -> bytes:
        received = asyncio.get_running_loop().create_task(loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        other.send(b"abc")
        return await received

    loop = Own()
    assert loop.run_until_complete(main()) == b"abc"
    assert made
    loop.close()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_connection_to_an_address_in_digits_knows_both_ends(
    any_loop: asyncio.AbstractEventLoop,
    host: str,
    debug: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        any_loop.set_debug(debug)
        listens = "::1" if ":" in host else "127.0.0.1"
        server = await any_loop.create_server(lambda: Recorder(any_loop), listens, 0)
        address = server.sockets[0].getsockname()
        variable = contextvars.ContextVar("variable", default=0)

        class Client(Recorder):
            def connection_made(self, transport: Any) -> None:
                self.seen = variable.get()

        variable.set(7)
        transport, protocol = await any_loop.create_connection(lambda: Client(any_loop), host, address[1])
        assert protocol.seen == 7
        assert transport.get_extra_info("peername") == address
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        told = [r for r in caplog.records if " connected to " in r.getMessage()]
        assert len(told) == debug
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    any_loop.run_until_complete(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("debug", [False, True])
def test_a_factory_that_fails_leaves_no_socket(loop: Any, run: Any, debug: bool) -> None:
    async def main() -> None:
        loop.set_debug(debug)
        server = await loop.create_server(lambda: Recorder(loop), "127.0.0.1", 0)

        def factory() -> Any:
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError):
            await loop.create_connection(factory, *server.sockets[0].getsockname())
        server.close()

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_a_connection_attempt_that_is_cancelled_leaves_no_socket(loop: Any, run: Any, debug: bool) -> None:
    async def main() -> None:
        loop.set_debug(debug)
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(8)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            task = loop.create_task(loop.create_connection(lambda: Recorder(loop), *full.getsockname()))
            for _ in range(3):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for filler in fillers:
                filler.close()

    run(main())


def test_a_replaced_method_on_the_way_to_a_connection_is_called(loop: Any, run: Any) -> None:
    asked = []

    async def sock_connect(sock: socket.socket, address: Any) -> None:
        asked.append(address)
        raise ConnectionRefusedError("mine")

    async def main() -> None:
        loop.sock_connect = sock_connect
        with pytest.raises(ConnectionRefusedError, match="mine"):
            await loop.create_connection(lambda: Recorder(loop), "127.0.0.1", 9)
        del loop.sock_connect
        assert asked == [("127.0.0.1", 9)]

    run(main())


def test_a_replaced_socket_class_makes_the_socket_of_a_connection(
    loop: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As proxies by replacement do it, and tests that forbid connections."""
    made = []

    class Mine(socket.socket):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            made.append(self)
            super().__init__(*args, **keywords)

    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Mine)
            transport, protocol = await loop.create_connection(lambda: Recorder(loop), *address)
            assert made
        transport.close()
        await protocol.lost
        server.close()

    run(main())


def test_the_socket_of_a_connection_can_be_had_until_its_end(loop: Any, run: Any) -> None:
    async def main() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(lambda: Recorder(loop), *address)
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert sock.getpeername() == address == transport.get_extra_info("peername")
        assert sock.getsockname() == transport.get_extra_info("sockname")
        fd = sock.fileno()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(fd, print)
        transport.close()
        await protocol.lost
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        assert transport.get_extra_info("socket") is sock
        server.close()

    run(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "255.255.255.255"])
def test_a_connection_that_fails_says_it_in_asyncios_words(loop: Any, host: str) -> None:
    """At once for an address to which nothing is sent, and within connect(2) on this host."""

    async def failure(on: Any, port: int) -> tuple[Any, ...]:
        with pytest.raises(OSError) as caught:
            await asyncio.wait_for(on.create_connection(asyncio.Protocol, host, port), 10)
        return type(caught.value), caught.value.errno, str(caught.value)

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        # Bound, and not listening: nobody else gets the port meanwhile.
        free.bind(("::1" if ":" in host else "127.0.0.1", 0))
        port = free.getsockname()[1]
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            expected = runner.run(failure(runner.get_loop(), port))
        assert loop.run_until_complete(failure(loop, port)) == expected


def test_a_file_of_which_nothing_is_sent_stays_where_it_was(any_loop: Any, pair: Any, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)

    async def main() -> None:
        with path.open("rb") as file:
            file.seek(7)
            assert await any_loop.sock_sendfile(pair[0], file, 100) == 0
            assert file.tell() == 7
            assert await any_loop.sock_sendfile(pair[0], file, 90, 5) == 5
            assert file.tell() == 95

    any_loop.run_until_complete(asyncio.wait_for(main(), 10))


def test_a_port_may_be_any_int(any_loop: Any) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"\('127.0.0.1', 1\)"):
            await any_loop.create_connection(asyncio.Protocol, "127.0.0.1", True)

    any_loop.run_until_complete(asyncio.wait_for(main(), 10))
