from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ._loop import Loop
from ._resolver import Resolver, SystemResolver

if TYPE_CHECKING:
    from ._simulation import Simulation

T = TypeVar("T")


def new_event_loop(
    *,
    resolver: Resolver | SystemResolver | None = None,
    driver: str | Simulation | None = None,
) -> Loop:
    """Make a loop; to be given as `loop_factory` to `asyncio.Runner` and its like.

    Args:
        resolver: what resolves names for this loop; None is tepal's own, set up by the system's
            files.
        driver: "epoll" or "poll"; None takes what the environment's TEPAL_DRIVER names, or else
            the platform's best. "sim" or a `tepal.Simulation` makes a loop on a simulated kernel,
            in virtual time.

    Raises:
        ValueError: the driver is unknown here.
        OSError: the kernel refused, for instance for want of descriptors.
    """
    if driver is not None and (driver == "sim" or not isinstance(driver, str)):
        # Few programs want it.
        from ._simulation import SimulatedLoop, simulation_of

        return SimulatedLoop(simulation_of(driver), resolver=resolver)
    return Loop(resolver=resolver, driver=driver)


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new loop, as `asyncio.run` does, and return its result.

    Raises:
        RuntimeError: a loop runs in this thread already.
        ValueError: `main` is no coroutine.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("tepal.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)


def get_running_loop() -> Loop:
    """The running loop, as `asyncio.get_running_loop` has it, with the type of ours.

    Raises:
        RuntimeError: no loop runs in this thread.
        TypeError: it is another library's.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        raise TypeError(f"the running loop is not tepal's, but {loop!r}")
    return loop
