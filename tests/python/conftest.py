"""What the tests of the package share: loops to test, and a ledger of what a test leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ledgers import descriptors

import tepal

# A test that hangs is a failure: the stacks are printed and the run ends.
LIMIT = 60


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves descriptors, threads or a running loop behind, or hangs."""
    import faulthandler

    faulthandler.dump_traceback_later(LIMIT, exit=True)
    gc.collect()
    fds, threads = descriptors(), threading.active_count()
    yield
    gc.collect()
    faulthandler.cancel_dump_traceback_later()
    assert asyncio._get_running_loop() is None
    assert descriptors() - fds == set()
    assert threading.active_count() == threads


@pytest.fixture
def bare_loop() -> Iterator[tepal.Loop]:
    """A loop, closed at the end."""
    made = tepal.new_event_loop()
    # Tests run with -X dev, which turns it on; those that want it say so.
    made.set_debug(False)
    yield made
    made.close()


@pytest.fixture(params=["asyncio", "tepal"])
def any_loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A contract holds for every loop: asyncio's is the judge of the test, ours is judged by it."""
    factory = {"asyncio": asyncio.SelectorEventLoop, "tepal": tepal.new_event_loop}
    made = factory[request.param]()
    made.set_debug(False)
    yield made
    made.close()


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The first lines of what was logged as an error so far, taken away."""

    def take() -> list[str]:
        found = [r.getMessage().splitlines()[0] for r in caplog.records if r.levelno >= logging.ERROR]
        caplog.clear()
        return found

    return take


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own, as developers do, with warnings as errors."""

    def run(code: str, *arguments: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    return run


@pytest.fixture
def loop() -> Iterator[Any]:
    """A loop that must leave no descriptor and no unreported exception behind."""
    gc.collect()
    loop = tepal.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    before = descriptors()
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.reports = reports
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    gc.collect()
    left = descriptors() - before
    loop.close()
    assert not left, f"descriptors were left open: {left}"
    assert not loop.reports, f"nobody looked at {loop.reports}"


@pytest.fixture
def run(loop: Any) -> Any:
    """Runs a coroutine, for ten seconds at most."""
    return lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 10))
