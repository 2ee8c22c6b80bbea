"""Whatever a callback raises, it costs what it costs in asyncio: S65, and sections 5 and 8 of the design."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import tepal

from .scenes import (
    Faulty,
    FaultyBuffered,
    FaultyDatagrams,
    FaultyProcess,
    FaultyStream,
    Story,
    datagrams,
    plain,
    process,
    read_pipe,
    tls,
    write_pipe,
)

pytestmark = pytest.mark.usefixtures("ledger")

ERRORS = (ZeroDivisionError, OSError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)

STREAM = ("connection_made", "data_received", "pause_writing", "resume_writing", "eof_received", "connection_lost")
BUFFERED = ("get_buffer", "buffer_updated", "eof_received", "connection_lost")

SCENES: dict[str, tuple[Any, type[Faulty], tuple[str, ...]]] = {
    "plain": (plain, FaultyStream, STREAM),
    "buffered": (plain, FaultyBuffered, BUFFERED),
    "tls": (tls, FaultyStream, STREAM),
    "tls buffered": (tls, FaultyBuffered, BUFFERED),
    "datagrams": (
        datagrams,
        FaultyDatagrams,
        ("connection_made", "datagram_received", "error_received", "connection_lost"),
    ),
    "read pipe": (read_pipe, FaultyStream, ("connection_made", "data_received", "eof_received", "connection_lost")),
    "write pipe": (write_pipe, FaultyStream, ("connection_made", "pause_writing", "resume_writing", "connection_lost")),
    "process": (
        process,
        FaultyProcess,
        ("connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"),
    ),
}

CASES = [(kind, where) for kind, (_, _, places) in SCENES.items() for where in places]


def story_on(factory: Any, kind: str, where: str, error: type[BaseException]) -> tuple[Any, ...]:
    loop = factory()
    loop.set_debug(False)
    scene, protocol, _ = SCENES[kind]
    try:
        return Story(loop, scene, protocol(where, error("on purpose"))).told()
    finally:
        loop.close()
        gc.collect()


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("kind", "where"), CASES)
def test_a_callback_that_raises_costs_what_it_costs_in_asyncio(kind, where, error):
    theirs = story_on(asyncio.SelectorEventLoop, kind, where, error)
    ours = story_on(tepal.new_event_loop, kind, where, error)
    left, _, reports, *_ = theirs
    if "stuck" in left or ("of a callback", "AssertionError") in reports:
        # asyncio's connection does not survive what leaves the run there; ours does.
        assert issubclass(error, (KeyboardInterrupt, SystemExit))
        assert ours[0] == [error.__name__] and ours[2] == []
    else:
        assert ours == theirs
