"""What the callbacks of a stream protocol may do: fail, leave, set variables, replace the protocol."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from typing import Any

import pytest
from connections import Recorder, connected, until


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
def test_an_exception_of_a_callback_costs_that_connection_only(loop: Any, run: Any, callback: str) -> None:
    async def main() -> None:
        error = ZeroDivisionError("mine")

        def fail(*_: Any) -> None:
            raise error

        transport, protocol, theirs = await connected(loop)
        other, other_protocol, other_peer = await connected(loop)
        setattr(protocol, callback, fail)
        theirs.sendall(b"x")
        theirs.shutdown(socket.SHUT_WR)
        assert await protocol.lost is error
        [report] = loop.reports
        assert report["exception"] is error
        assert report["transport"] is transport
        assert report["protocol"] is protocol
        assert report["message"] == f"Fatal error: protocol.{callback}() call failed."
        loop.reports.clear()
        other.write(b"alive")
        await asyncio.sleep(0)
        assert other_peer.recv(10) == b"alive"
        other.close()
        await other_protocol.lost
        for sock in (theirs, other_peer):
            sock.close()

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_callback_leaves_a_loop_that_runs_again(loop: Any, kind: Any) -> None:
    def leave(_: bytes) -> None:
        raise kind("mine")

    transport, protocol, theirs = loop.run_until_complete(connected(loop))
    protocol.data_received = leave
    theirs.sendall(b"x")
    with pytest.raises(kind, match="mine"):
        loop.run_forever()
    transport.abort()
    theirs.close()
    loop.run_until_complete(protocol.lost)


def test_callbacks_run_in_the_context_of_the_connection(loop: Any, run: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    class Looks(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(variable.get())

        def data_received(self, data: bytes) -> None:
            seen.append(variable.get())

    async def main() -> None:
        variable.set("outer")
        transport, protocol, theirs = await connected(loop, lambda: Looks(loop))
        variable.set("later")
        theirs.sendall(b"x")
        await until(lambda: len(seen) > 1)
        transport.close()
        theirs.close()
        await protocol.lost

    run(main())
    assert seen == ["outer", "outer"]


@pytest.mark.parametrize("through", ["create_server", "listen"])
def test_a_connection_does_not_see_what_another_has_set_in_its_context(loop: Any, run: Any, through: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []

    class Sets(Recorder):
        def __init__(self) -> None:
            super().__init__(loop)
            seen.append(variable.get())
            variable.set("init")

        def connection_made(self, transport: Any) -> None:
            seen.append(variable.get())
            variable.set("made")

        def connection_lost(self, exc: BaseException | None) -> None:
            seen.append(variable.get())

    async def main() -> None:
        variable.set("server")
        server = await getattr(loop, through)(Sets, "127.0.0.1", 0)
        variable.set("later")
        for turn in range(2):
            socket.create_connection(server.sockets[0].getsockname()).close()
            await until(lambda turn=turn: len(seen) == 3 * turn + 3)
        server.close()
        await server.wait_closed()

    run(main())
    assert seen == ["server", "init", "made"] * 2


def test_a_protocol_can_be_replaced_from_its_own_callback(loop: Any, run: Any) -> None:
    async def main() -> None:
        transport, first, theirs = await connected(loop)
        second = Recorder(loop)
        first.data_received = lambda data: transport.set_protocol(second)
        theirs.sendall(b"1")
        await until(lambda: transport.get_protocol() is second)
        theirs.sendall(b"2")
        await until(lambda: second.data)
        assert second.data == b"2"
        transport.close()
        theirs.close()
        assert await second.lost is None
        assert not first.lost.done()

    run(main())


def test_a_factory_that_fails_costs_its_connection_only(loop: Any, run: Any) -> None:
    async def main() -> None:
        calls: list[Recorder] = []

        def factory() -> Recorder:
            calls.append(Recorder(loop))
            if len(calls) == 1:
                raise ZeroDivisionError("mine")
            return calls[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        for _ in range(2):
            with socket.create_connection(server.sockets[0].getsockname()) as peer:
                peer.settimeout(5)
                before = len(calls)
                await until(lambda before=before: len(calls) > before)
        assert await calls[1].lost is None
        [report] = loop.reports
        assert isinstance(report["exception"], ZeroDivisionError)
        loop.reports.clear()
        server.close()
        await server.wait_closed()

    run(main())
