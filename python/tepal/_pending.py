"""asyncio's order on connections with layers: the protocol is heard of once bytes may flow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ._protocol import Protocol
from ._reaching import NO_TIMEOUTS, Timeouts
from ._transport_calls import accepting_failed, transport_callback_failed

Factory = Callable[[], asyncio.BaseProtocol]


class Pending(Protocol):
    """Stands in a protocol's place until its connection is established, as asyncio has it."""

    def __init__(
        self,
        loop: Any,
        factory: Factory,
        specs: list[Any] | None = None,
        host: Any = None,
        limits: Timeouts = NO_TIMEOUTS,
        server_side: bool = False,
        recipe: Any = None,
    ) -> None:
        self.loop = loop
        self.factory = factory
        self.specs, self.host, self.limits = specs, host, limits
        self.server_side = server_side
        self.recipe = recipe
        self.error: BaseException | None = None

    def connection_established(self, transport: Any) -> None:
        if self.recipe is not None:
            transport._tls_given = self.recipe, self.server_side
        try:
            protocol = self.factory()
            transport.set_protocol(protocol)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.error = error
            transport.abort()
            if self.specs is None:
                # Of a server: nobody waits for it.
                accepting_failed(self.loop, error)
            return
        try:
            protocol.connection_made(transport)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            transport_callback_failed(transport, "connection_made", error)
