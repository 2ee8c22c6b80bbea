"""add_reader and its kin."""

from __future__ import annotations

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
