"""Loops on a simulated kernel: virtual time, an in-memory network, the same run for the same seed."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
from asyncio import base_events
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from . import _tepal
from ._errors import ConnectError
from ._loop import Loop
from ._pending import Factory, Pending
from ._reaching import NO_TIMEOUTS, Timeouts
from ._resolver import Resolver, SystemResolver
from ._tepal import add_fast_methods
from ._values import Value, check_bool, check_int, check_seconds, kind_of

REAL = "a simulated loop has no real sockets"


@dataclass(frozen=True, repr=False)
class Simulation(Value):
    """What the simulated kernel of a loop is like: `tepal.new_event_loop(driver=tepal.Simulation())`.

    Time jumps to the next deadline whenever nothing can run, so that a program that sleeps for a day
    ends at once. `loop.time()` is that time; `time.time()` and its like stay the real ones. Streams
    over TCP and Unix sockets reach what listens on the same loop. What needs the real kernel
    (descriptors, datagrams, processes) raises `OSError`. A wait that nothing can end raises `OSError`
    out of the run, and says what was waited for.

    Args:
        seed: all chance of the kernel comes from it: the same program with the same seed makes the
            same run.
        latency: the least and the most that a segment travels, in seconds.
        stormy: be as unfriendly as a kernel may: short reads and writes, late pieces, events in
            another order.
        patience: how long, in real seconds, to wait for threads such as `run_in_executor` has when
            nothing else can happen.
    """

    _: KW_ONLY
    seed: int = 0
    latency: tuple[float, float] = (0.0, 0.0)
    stormy: bool = False
    patience: float = 10.0

    def __post_init__(self) -> None:
        check_int("seed", self.seed, 0, (1 << 64) - 1)
        check_bool("stormy", self.stormy)
        check_seconds("patience", self.patience)
        if not isinstance(self.latency, tuple) or len(self.latency) != 2:
            raise TypeError(f"latency must be two numbers of seconds, not {self.latency!r}")
        least, most = (check_seconds("latency", value) for value in self.latency)
        if least > most:
            raise ValueError(f"latency must be the least and the most, not {self.latency!r}")

    def _settings(self) -> tuple[int, float, float, bool, float]:
        least, most = self.latency
        return self.seed, float(least), float(most), self.stormy, float(self.patience)


def simulation_of(driver: object) -> Simulation:
    """What `driver=` says.

    Raises:
        TypeError: it is no driver.
    """
    if driver == "sim":
        return Simulation()
    if not isinstance(driver, Simulation):
        raise TypeError(f"driver must be a str, a tepal.Simulation or None, not {kind_of(driver)}")
    return driver


class _Socket(_tepal.SimulatedSocket):
    """A listening socket, as `asyncio.Server` uses one."""

    _numbers = itertools.count(2)

    def __init__(self, loop: Loop, address: Any) -> None:
        # No descriptor of the kernel's has a number like this.
        self._number = -next(self._numbers)
        self.type, self.proto = socket.SOCK_STREAM, 0
        self.family = socket.AF_UNIX
        if isinstance(address, tuple):
            self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    def fileno(self) -> int:
        """A number that tells it apart."""
        return self._number


class SimulatedLoop(Loop):
    """A loop on a simulated kernel; see `Simulation`."""

    def __init__(
        self, simulation: Simulation, *, resolver: Resolver | SystemResolver | None = None
    ) -> None:
        self._simulation = simulation
        super().__init__(resolver=resolver, driver="sim")

    def _open(self, driver: str | None = None, simulation: Any = None) -> None:
        super()._open(driver, self._simulation._settings())

    async def shutdown_default_executor(self, *_: Any) -> None:
        """Waits for the executor's threads, without asyncio's limit: that would be virtual time."""
        await super().shutdown_default_executor()

    # ---- connections

    async def create_connection(
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        layers: Iterable[Any] = (),
        timeouts: Timeouts | None = None,
        addresses: Any = None,
        happy_eyeballs_delay: float | None = None,
        **_: Any,
    ) -> tuple[Any, Any]:
        """As asyncio's, to what listens on this loop."""
        if sock is not None:
            raise ValueError(REAL)
        if addresses is None:
            addresses = "linear" if happy_eyeballs_delay is None else "race"
        layers = _with_tls(layers, ssl, server_hostname)
        where = {"host": host, "port": port, "local": local_addr, "addresses": addresses}
        return await self._reach(protocol_factory, layers, timeouts, where)

    async def create_unix_connection(  # type: ignore[override]
        self,
        protocol_factory: Factory,
        path: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        server_hostname: str | None = None,
        **_: Any,
    ) -> tuple[Any, Any]:
        """As asyncio's, to what listens on this loop."""
        if sock is not None:
            raise ValueError(REAL)
        return await self._reach(protocol_factory, _with_tls((), ssl, server_hostname), None, {"path": path})

    async def _reach(
        self, factory: Factory, layers: Iterable[Any], timeouts: Timeouts | None, where: dict[str, Any]
    ) -> tuple[Any, Any]:
        pending = Pending(self, factory, [], where.get("host"))
        limits = NO_TIMEOUTS if timeouts is None else timeouts
        transport = self.connect(lambda: pending, layers=layers, timeouts=limits, **where)
        try:
            await transport.established()
        except ConnectError as error:
            # asyncio raises what the kernel said.
            cause = error.problem.cause if error.problem is not None else None
            if not isinstance(cause, OSError):
                raise
            cause.problem = error.problem  # type: ignore[attr-defined]
            raise cause from None
        except asyncio.CancelledError:
            transport.abort()
            raise
        if pending.error is not None:
            raise pending.error
        return transport, transport.get_protocol()

    async def create_datagram_endpoint(self, *_: Any, **__: Any) -> Any:
        """Refuses: datagrams of Python's are real sockets."""
        raise OSError(errno.EOPNOTSUPP, "a simulated loop has no datagram endpoints")

    # ---- servers

    async def create_server(
        self,
        protocol_factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> Any:
        """As asyncio's, on the simulated network."""
        if sock is not None:
            raise ValueError(REAL)
        hosts = ["0.0.0.0", "::"] if host in (None, "") else [host] if isinstance(host, str) else list(host)
        found: dict[tuple[str, int], None] = {}
        for name in hosts:
            for info in await self._ensure_resolved((name, port or 0), type=socket.SOCK_STREAM):
                found[info[4][:2]] = None
        return await self._serve(protocol_factory, list(found), **options)

    async def create_unix_server(  # type: ignore[override]
        self, protocol_factory: Factory, path: Any = None, *, sock: Any = None, **options: Any
    ) -> Any:
        """As asyncio's, on the simulated network."""
        if sock is not None:
            raise ValueError(REAL)
        return await self._serve(protocol_factory, [os.fspath(path)], **options)

    async def _serve(
        self,
        factory: Factory,
        addresses: list[Any],
        *,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        layers: Iterable[Any] = (),
        **_: Any,
    ) -> Any:
        sockets: list[Any] = []
        try:
            for address in addresses:
                sockets.append(_Socket(self, address))
        except BaseException:
            for one in sockets:
                one.close()
            raise
        layers = _with_tls(layers, ssl, None)
        make: Factory = (lambda: Pending(self, factory)) if layers else factory
        limits = (ssl_handshake_timeout, ssl_shutdown_timeout)
        server = base_events.Server(self, sockets, make, None, backlog, *limits)  # type: ignore[call-arg, arg-type]
        if layers:
            from ._layers import specs_of

            server._listener_options = {"layers": specs_of(layers)}  # type: ignore[attr-defined]
        if start_serving:
            await server.start_serving()
        return server


def _with_tls(layers: Iterable[Any], ssl: Any, host: str | None) -> list[Any]:
    layers = list(layers)
    if not ssl:
        return layers
    if layers:
        raise ValueError("ssl and layers cannot be given together: put a tepal.TLS into layers")
    from ._layers import LayerSpec, OpenSSL

    if isinstance(ssl, LayerSpec):
        return [ssl]
    if ssl is True:
        from ssl import create_default_context

        ssl = create_default_context()
    return [OpenSSL(ssl, host)]


add_fast_methods(SimulatedLoop)
