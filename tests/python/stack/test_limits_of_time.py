"""Deadlines of phases, and limits of quiet, silence and age."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import tepal

from .conftest import Recorder, client_tls, echo, serve


# S68: a listener whose queue is full answers no SYN.
def test_a_peer_that_does_not_answer_is_told_by_timeout_connecting(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        told: list[str] = []

        class Client(Recorder):
            def timeout_connecting(self) -> None:
                told.append("timeout")

        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = []
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
                fillers.append(filler)
            transport = loop.connect(Client, *full.getsockname(), timeouts=tepal.Timeouts(connecting=0.1))
            with pytest.raises(tepal.ConnectError) as caught:
                await transport.established()
            for filler in fillers:
                filler.close()
        assert told == ["timeout"]
        assert caught.value.problem is not None and caught.value.problem.kind == "timed_out"

    run(main())


def test_a_handshake_that_takes_too_long_is_told_by_timeout_handshake(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        told: list[str] = []

        class Client(Recorder):
            def timeout_handshake(self) -> None:
                told.append(self.transport.phase)

        transport = loop.connect(
            Client,
            "127.0.0.1",
            port,
            layers=[client_tls()],
            timeouts=tepal.Timeouts(handshake=0.05, closing=0.05),
        )
        client = transport.get_protocol()
        with pytest.raises(tepal.ConnectError):
            await transport.established()
        assert isinstance(await client.lost, tepal.HandshakeTimeout)
        assert len(told) == 1
        await server.drain(0)

    run(main())


# S69
def test_quiet_is_told_and_the_connection_stays_up(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(lambda: Recorder(echo))

        class Client(Recorder):
            def timeout_idle(self) -> None:
                self.transport.write(b"are you there?")

        transport = loop.connect(Client, "127.0.0.1", port, timeouts=tepal.Timeouts(idle=0.02))
        await transport.established()
        await transport.get_protocol().until_data(b"are you there?")
        transport.close()
        await transport.get_protocol().lost
        await server.drain(1)

    run(main())


@pytest.mark.parametrize("name", ["read", "session"])
def test_a_silent_or_an_old_connection_is_lost_by_its_time(run: Any, name: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        server, port = await serve(Recorder)
        timeouts = tepal.Timeouts(**{name: 0.02})
        transport = loop.connect(Recorder, "127.0.0.1", port, timeouts=timeouts)
        told = await transport.get_protocol().lost
        assert isinstance(told, tepal.QuietTimeout) and isinstance(told, TimeoutError)
        assert transport.closed.kind == f"{name}_timed_out"
        await server.drain(0)

    run(main())


@pytest.mark.parametrize("name", ["read", "write", "session"])
def test_a_server_gives_up_an_accepted_connection_by_its_time(run: Any, name: str) -> None:
    async def main() -> None:
        accepted: list[Recorder] = []

        class Served(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                accepted.append(self)
                if name == "write":
                    # More than the kernel takes for a peer that does not read.
                    transport.write(bytes(32 << 20))

        server, port = await serve(Served, timeouts=tepal.Timeouts(**{name: 0.02}))
        with socket.create_connection(("127.0.0.1", port)):
            while not accepted:
                await asyncio.sleep(0)
            told = await accepted[0].lost
        assert isinstance(told, tepal.QuietTimeout)
        assert accepted[0].transport.closed.kind == f"{name}_timed_out"
        await server.drain(0)

    run(main())


def test_a_server_tells_the_quiet_of_an_accepted_connection_and_keeps_it(run: Any) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        class Served(Recorder):
            def timeout_idle(self) -> None:
                self.transport.write(b"are you there?")

        server, port = await serve(Served, timeouts=tepal.Timeouts(idle=0.02))
        transport = loop.connect(Recorder, "127.0.0.1", port)
        await transport.established()
        client = transport.get_protocol()
        await client.until(lambda: b"there?" in client.data)
        assert transport.closed is None
        transport.close()
        await client.lost
        await server.drain(1)

    run(main())


@pytest.mark.parametrize("limit", ["dns", "connecting", "total"])
def test_create_connection_limits_each_phase(run: Any, limit: str) -> None:
    """As `connect` does, and with asyncio's kind of exception."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        # A listener whose queue is full answers no SYN.
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            waiting = [socket.socket() for _ in range(3)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            host = address[0]
            if limit == "dns":

                async def never(*_: Any, **__: Any) -> None:
                    await loop.create_future()

                loop.getaddrinfo, host = never, "name.test"
            timeouts = tepal.Timeouts(**{"connecting": None, "dns": None, limit: 0.05})
            try:
                with pytest.raises(TimeoutError, match="took longer than 0.05 seconds") as told:
                    await loop.create_connection(Recorder, host, address[1], timeouts=timeouts)
            finally:
                loop.__dict__.pop("getaddrinfo", None)
                for one in waiting:
                    one.close()
        problem = told.value.problem  # type: ignore[attr-defined]
        assert problem.kind == "timed_out" and problem.port == address[1]
        assert problem.phase is (tepal.Phase.RESOLVE if limit == "dns" else tepal.Phase.CONNECT)
        assert problem.address == (None if limit == "dns" else address)
        assert problem.total == (0.05 if limit == "total" else None)
        text = str(problem)
        if limit == "dns":
            assert text.startswith(f"cannot find name.test port {address[1]}: "), text
        else:
            begin = f"cannot connect to 127.0.0.1 port {address[1]}: 127.0.0.1:{address[1]} gave no answer in"
            assert text.startswith(begin), text
        assert (", the whole may take 0.05 s)" in text) == (limit == "total"), text
        del told

    run(main())
