"""add_reader and its kin."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest


def test_a_socket_that_was_closed_while_it_was_watched_can_be_removed(loop: Any) -> None:
    one, other = socket.socketpair()
    loop.add_reader(one, print)
    loop.add_writer(one, print)
    one.close()
    assert loop.remove_reader(one)
    assert loop.remove_writer(one)
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        loop.remove_reader(one)
    other.close()


def test_two_turns_are_enough_to_hear_of_what_came_in_a_turn(loop: Any) -> None:
    """As on asyncio's loop, which looks at the kernel in every turn: programs count on it."""
    one, other = socket.socketpair()
    heard = []

    async def main() -> None:
        loop.add_reader(one, lambda: heard.append(one.recv(1)))
        for turn in range(20):
            other.send(b"x")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(heard) == turn + 1
        loop.remove_reader(one)

    loop.run_until_complete(main())
    one.close()
    other.close()
