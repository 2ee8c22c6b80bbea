"""Random programs see the same on asyncio's loop and on ours."""

from __future__ import annotations

import asyncio

import pytest
from faults.sampling import SHARE

import tepal

from .children import children
from .datagrams import datagrams
from .kit import Program, difference, run
from .secured import secured
from .servers import servers
from .sockets import sockets
from .streams import streams
from .transports import transports
from .turns import turns

pytestmark = pytest.mark.usefixtures("ledger")

# More for `make soak`, and some seconds otherwise.
COUNT = 100 if SHARE else 12
# A busy machine can delay either loop's kernel: what differs each time is a difference.
ATTEMPTS = 4
# A transport of asyncio's that is over trips over itself, and there is nothing to compare with.
FAILED = "'NoneType' object "


@pytest.mark.parametrize("program", [transports, streams, turns, secured, datagrams, servers, sockets, children])
@pytest.mark.parametrize("seed", range(COUNT))
def test_a_random_program_sees_what_it_sees_on_asyncio(program: Program, seed: int) -> None:
    found = ""
    for _ in range(ATTEMPTS):
        expected = run(asyncio.SelectorEventLoop, program, seed)
        found = difference(expected, run(tepal.new_event_loop, program, seed))
        if not found or FAILED in repr(expected):
            return
    raise AssertionError(found)
