"""Servers of `loop.listen`."""

from __future__ import annotations

import asyncio
import weakref
from asyncio import base_events
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ._transports import StreamTransport
from ._values import Value, check_int, check_seconds


@dataclass(frozen=True, repr=False)
class Limits(Value):
    """What a server of `loop.listen` allows.

    Args:
        connections: how many at once. More wait in the kernel's queue. None: no limit.
        read: bytes that a protocol may leave unread before it must make progress, per connection.
    """

    _: KW_ONLY
    connections: int | None = None
    read: int = 256 * 1024

    def __post_init__(self) -> None:
        if self.connections is not None:
            check_int("connections", self.connections, 1, 1 << 40)
        check_int("read", self.read, 1, 1 << 40)


class Server(base_events.Server):
    """A server of `loop.listen`: asyncio's, which can also drain."""

    _tepal_clients: weakref.WeakSet[StreamTransport]

    async def drain(self, seconds: float | None = None) -> int:
        """Stop accepting, wait until all connections have ended, and abort the rest.

        Args:
            seconds: how long to wait. None: for ever.

        Returns:
            How many connections had to be aborted.
        """
        if seconds is not None:
            check_seconds("seconds", seconds)
        self.close()
        try:
            async with asyncio.timeout(seconds):
                await self._wait_idle()
            return 0
        except TimeoutError:
            left = self._open_clients()
            for transport in left:
                transport.abort()
            await self._wait_idle()
            return len(left)

    def _open_clients(self) -> list[StreamTransport]:
        return [transport for transport in self._tepal_clients if not transport._lost]

    async def _wait_idle(self) -> None:
        while self._open_clients():
            loop = asyncio.get_running_loop()
            self._idle = loop.create_future()
            await self._idle

    def _detach(self, *transport: Any) -> None:
        super()._detach(*transport)  # type: ignore[misc]
        idle = getattr(self, "_idle", None)
        if idle is not None and not idle.done():
            idle.set_result(None)

    if not hasattr(base_events.Server, "abort_clients"):

        def close_clients(self) -> None:
            """Close all connections."""
            for transport in self._open_clients():
                transport.close()

        def abort_clients(self) -> None:
            """Abort all connections."""
            for transport in self._open_clients():
                transport.abort()
