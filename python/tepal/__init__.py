"""An event loop with transports and protocols in the line of PEP 3156.

`tepal.run(main())` runs a coroutine on tepal's loop, which replaces asyncio's: everything in
`asyncio` works on it. For programs that take a loop factory, `tepal.new_event_loop` is one.
"""

from __future__ import annotations

from ._loop import Loop
from ._resolver import Resolver, SystemResolver
from ._run import new_event_loop, run
from ._tepal import READ, WRITE, Timer, Watcher, __version__

__all__ = [
    "READ",
    "WRITE",
    "Loop",
    "Resolver",
    "SystemResolver",
    "Timer",
    "Watcher",
    "__version__",
    "new_event_loop",
    "run",
]
