"""Loops on the simulated kernel: virtual time, streams, the same run for the same seed."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import tepal

pytestmark = pytest.mark.usefixtures("ledger")

DATA = Path(__file__).parents[2] / "crates" / "tepal-layers" / "tests" / "data"
STORM = tepal.Simulation(seed=3, latency=(0.001, 0.02), stormy=True)


def simulate(main: Coroutine[Any, Any, Any], simulation: Any = "sim") -> Any:
    async def whole() -> Any:
        result = await main
        # Both ends of what was closed hear of it.
        await asyncio.sleep(60)
        return result

    with asyncio.Runner(loop_factory=lambda: tepal.new_event_loop(driver=simulation)) as runner:
        return runner.run(whole())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_time_passes_in_no_time() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        began, times = loop.time(), []
        await asyncio.sleep(24 * 3600)
        times.append(loop.time() - began)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 30)
        times.append(loop.time() - began)
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in (5, 3, 1)))
        times.append(loop.time() - began)
        return times

    real = time.monotonic()
    assert simulate(main()) == pytest.approx([86400, 86430, 86435])
    assert time.monotonic() - real < 60


def test_a_simulated_loop_says_what_it_is() -> None:
    loop = tepal.new_event_loop(driver="sim")
    assert isinstance(loop, tepal.Loop) and loop.driver == "sim"
    loop.close()
    with pytest.raises(ValueError, match="latency must be the least and the most"):
        tepal.Simulation(latency=(2, 1))
    with pytest.raises(TypeError, match="latency must be two numbers"):
        tepal.Simulation(latency=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("simulation", [tepal.Simulation(), STORM], ids=["friendly", "storm"])
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_streams_reach_servers_of_the_same_loop(simulation: Any, family: str) -> None:
    async def main() -> bytes:
        if family == "tcp":
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
        else:
            server = await asyncio.start_unix_server(echo, "/run/of-no-file-system")
            reader, writer = await asyncio.open_unix_connection("/run/of-no-file-system")
        writer.write(b"bytes" * 50_000)
        writer.write_eof()
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return data

    assert simulate(main(), simulation) == b"bytes" * 50_000
    assert not os.path.exists("/run/of-no-file-system")


def test_a_server_of_all_addresses_has_both_families() -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, None, 80)
        assert [one.getsockname()[0] for one in server.sockets] == ["0.0.0.0", "::"]
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, 80)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            writer.close()
        server.close()

    simulate(main())


async def story() -> list[Any]:
    """What a program with several connections sees, and when."""
    loop, seen = asyncio.get_running_loop(), []
    began = loop.time()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for turn in range(5):
            writer.write(bytes([number]) * 3000)
            size = 0
            while size < 3000:
                size += len(await reader.read(4096))
                seen.append((number, turn, size, loop.time() - began))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(number) for number in range(4)))
    server.close()
    return seen


def test_a_seed_is_one_run() -> None:
    def run(seed: int) -> list[Any]:
        return simulate(story(), tepal.Simulation(seed=seed, latency=(0.001, 0.02), stormy=True))

    runs = [run(seed) for seed in (1, 2, 3)]
    assert runs == [run(seed) for seed in (1, 2, 3)]
    assert runs[0] != runs[1] != runs[2]


def test_latency_is_what_it_was_set_to() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        began = loop.time()
        writer.write(b"x")
        await reader.read(1)
        took = loop.time() - began
        writer.close()
        server.close()
        return took

    assert simulate(main(), tepal.Simulation(latency=(0.25, 0.25))) == pytest.approx(0.5)


def test_a_connection_that_is_refused_is_asyncios_exception() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError) as told:
            await asyncio.open_connection("127.0.0.1", 81)
        assert told.value.problem.port == 81  # type: ignore[attr-defined]
        del told

    simulate(main())


def test_a_wait_that_nothing_can_end_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(OSError, match="simulated deadlock"):
        simulate(main(), tepal.Simulation(patience=0.0))


def test_threads_are_waited_for() -> None:
    async def main() -> str:
        return await asyncio.to_thread(lambda: "from a thread")

    assert simulate(main()) == "from a thread"


CONTEXTS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "tls": lambda: (
        tepal.TLS(certificate=DATA / "server.pem", key=DATA / "server.key"),
        tepal.TLS("server.test", ca=DATA / "ca.pem"),
    ),
    "context": lambda: (server_context(), ssl.create_default_context(cafile=str(DATA / "ca.pem"))),
}


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "server.pem", DATA / "server.key")
    return context


@pytest.mark.parametrize("given", CONTEXTS)
def test_tls_runs_on_it(given: str) -> None:
    async def main() -> None:
        for_server, for_client = CONTEXTS[given]()
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=for_server)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=for_client, server_hostname="server.test")
        writer.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
        assert writer.get_extra_info("cipher")[1] == "TLSv1.3"
        writer.close()
        await writer.wait_closed()
        server.close()

    simulate(main(), STORM)


def test_a_plan_of_attempts_takes_no_real_time() -> None:
    class Client(tepal.Protocol):
        attempts = 0

        def error_connecting(self, exc: BaseException) -> None:
            self.attempts += 1

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        client = Client()
        backoff = tepal.Backoff(first=60, factor=1, jitter=0, attempts=10)
        transport = loop.connect(lambda: client, "127.0.0.1", 82, backoff=backoff)
        with pytest.raises(tepal.ConnectError):
            await transport.established()
        assert client.attempts == 11 and loop.time() >= 10 * 60

    simulate(main())


def test_what_needs_the_real_kernel_is_refused() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(ValueError, match="no real sockets"):
                await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(ValueError, match="no real sockets"):
                await loop.create_server(asyncio.Protocol, sock=ours)
            with pytest.raises(OSError):
                loop.add_reader(ours, print)
        with pytest.raises(OSError):
            await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))

    simulate(main())
