"""signal.set_wakeup_fd: the loop lends its own for a run, and others' go on working."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield one, other
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, before)
    one.close()
    other.close()


def test_a_descriptor_set_before_the_run_gets_the_signals(
    loop: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    signal.set_wakeup_fd(other.fileno())
    loop.add_reader(one, loop.stop)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert one.recv(8) == bytes([signal.SIGUSR1])
    loop.remove_reader(one)
    assert signal.set_wakeup_fd(-1) == other.fileno()


def test_a_descriptor_set_within_the_run_is_kept(
    loop: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    loop.call_soon(signal.set_wakeup_fd, other.fileno())
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    loop.add_reader(one, loop.stop)
    loop.run_forever()
    assert one.recv(8) == bytes([signal.SIGUSR1])
    loop.remove_reader(one)
    assert signal.set_wakeup_fd(-1) == other.fileno()


def test_the_earlier_descriptor_may_be_closed_within_the_run(
    loop: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    _one, other = pair
    heard: list[str] = []
    loop.add_signal_handler(signal.SIGUSR2, lambda: (heard.append("heard"), loop.stop()))
    signal.set_wakeup_fd(other.fileno())
    loop.call_soon(other.close)
    loop.call_soon(signal.raise_signal, signal.SIGUSR2)
    loop.run_forever()
    assert heard == ["heard"]
    loop.remove_signal_handler(signal.SIGUSR2)
