"""What tests share: a loop with a ledger, checked when it is closed."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest

import tepal


def open_descriptors() -> set[int]:
    """The descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.fixture
def loop() -> Iterator[Any]:
    """A loop that must leave no descriptor and no unreported exception behind."""
    gc.collect()
    loop = tepal.new_event_loop()
    # The loop's own are opened by now; they go with the object.
    loop.run_until_complete(asyncio.sleep(0))
    before = open_descriptors()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.reports = reports
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    gc.collect()
    left = open_descriptors() - before
    loop.close()
    assert not left, f"descriptors were left open: {left}"
    assert not loop.reports, f"nobody looked at {loop.reports}"


@pytest.fixture
def run(loop: Any) -> Any:
    """Runs a coroutine, for ten seconds at most."""
    return lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 10))
