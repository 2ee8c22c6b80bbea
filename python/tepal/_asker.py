"""Resolvers of the user's, asked for the engine."""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import Any

from ._resolver import SystemResolver


class Asker:
    """Asks a resolver that is Python for the engine, in a task of its own."""

    def __init__(self, loop: Any, resolver: Any) -> None:
        # Its identity names it, so it stays; but a loop is not kept alive by itself.
        self.loop = weakref.ref(loop)
        self.resolver = None if resolver is loop else resolver
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self, lookup: int, host: str, port: int, family: int) -> None:
        task = self.loop().create_task(self._answer(lookup, host, port, family))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, lookup: int, host: str, port: int, family: int) -> None:
        import ipaddress  # Here, since it takes a millisecond.

        loop = self.loop()
        found: list[tuple[Any, int, int]] = []
        code, text = 0, ""
        try:
            for kind, _, _, _, address in await self._ask(loop, host, port, family):
                if kind in (socket.AF_INET, socket.AF_INET6):
                    ip = ipaddress.ip_address(address[0].partition("%")[0])
                    found.append((ip, address[1], address[3] if len(address) == 4 else 0))
        except Exception as error:
            found = []
            code = error.errno if isinstance(error, socket.gaierror) and error.errno else 0
            text = str(error) or type(error).__name__
        loop._answer_addrinfo(lookup, found, code, text)

    def _ask(self, loop: Any, host: str, port: int, family: int) -> Any:
        resolver = loop if self.resolver is None else self.resolver
        if isinstance(resolver, SystemResolver):
            arguments = (host, port, family, socket.SOCK_STREAM)
            return loop.run_in_executor(resolver.executor, socket.getaddrinfo, *arguments)
        return resolver.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
