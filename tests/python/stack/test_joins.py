"""Connections joined to each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import Pair, Recorder, record_and_echo


def test_a_join_relays_without_the_protocols(run: Any) -> None:
    async def main() -> None:
        back = await Pair.make(server=lambda: Recorder(record_and_echo))
        front = await Pair.make()
        done = front.server.transport.join(back.client.transport)
        message = bytes(range(256)) * 500
        front.client.transport.write(message)
        await front.client.until_data(message)
        assert front.server.data == back.client.data == b""
        front.client.transport.write_eof()
        assert await done == (len(message), len(message))
        await asyncio.gather(
            front.client.lost, front.server.lost, back.client.lost, back.server.lost
        )
        await asyncio.gather(front.listener.drain(0), back.listener.drain(0))

    # The pipe through which the bytes went is kept for the next relay.
    run(main(), kept=2)


def test_a_join_of_wrong_things_is_refused(run: Any) -> None:
    async def main() -> None:
        pair = await Pair.make()
        with pytest.raises(TypeError, match="other must be a stream transport"):
            pair.client.transport.join(None)
        with pytest.raises((ValueError, RuntimeError)):
            pair.client.transport.join(pair.client.transport)
        await pair.close()
        with pytest.raises(RuntimeError):
            pair.client.transport.join(pair.server.transport)

    run(main())
