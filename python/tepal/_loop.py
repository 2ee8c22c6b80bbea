"""The class `Loop`: the native half, what is written in Python, and asyncio's interface."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any

from ._endpoints import Endpoints
from ._executors import Executors
from ._failures import Failures
from ._lifetime import Lifetime
from ._names import Names
from ._resolver import Resolver, SystemResolver
from ._signals import Signals
from ._sockets import Sockets
from ._stacks import Stacks
from ._tepal import add_fast_methods

if TYPE_CHECKING:

    class NativeLoop:
        """For type checkers the parts bring it."""

else:
    from ._tepal import Loop as NativeLoop


class Loop(
    NativeLoop,
    Lifetime,
    Failures,
    Executors,
    Names,
    Sockets,
    Signals,
    Stacks,
    Endpoints,
    asyncio.AbstractEventLoop,
):
    """tepal's event loop, in the place of asyncio's.

    It belongs to the thread that runs it; `call_soon_threadsafe` and `asyncio.run_coroutine_threadsafe`
    are what other threads may use. Make it with `tepal.new_event_loop`, or run a program with
    `tepal.run`. The class can be derived from; call `super().__init__()` then.
    """

    slow_callback_duration: float = 0.1
    """Debug mode complains of callbacks that take as many seconds or more."""

    _own_class: type[Loop]

    def __init__(self, *, resolver: Resolver | SystemResolver | None = None, driver: str | None = None) -> None:
        self._open(driver)
        try:
            self._init_names(resolver)
        except BaseException:
            self._close()
            raise
        self._init_lifetime()
        self._init_failures()
        self._init_executors()
        self._init_signals()
        self._init_endpoints()
        if asyncio.coroutines._is_debug_mode():  # type: ignore[attr-defined]
            self.set_debug(True)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Of a handle that somebody made by himself, with this loop in it: nothing to account for."""

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={not self.is_closed() and self.get_debug()}>"
        )

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self.is_closed():
            return
        _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        if not self.is_running():
            self.close()


# For what a derived class may have changed.
Loop._own_class = Loop
add_fast_methods(Loop)
