"""Signal handlers. CPython owns the dispositions: what `signal` can do, it does."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._native import check_callback

if TYPE_CHECKING:
    from ._base import Base
else:
    Base = object


class Signals(Base):
    """The part of `Loop` that listens for signals."""

    def _init_signals(self) -> None:
        # The dispositions found when a handler was added are not put back: removing one sets the
        # default, as asyncio does.
        self._signal_numbers: set[int] = set()

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Call callback(*args) on the loop when the signal arrives. Main thread only.

        Raises:
            TypeError: the signal is no number, or the callback a coroutine.
            ValueError: there is no such signal, or this is not the main thread.
            RuntimeError: the signal cannot be caught.
        """
        check_callback(callback, "add_signal_handler")
        self._check_signal(sig)
        self._check_closed()
        known = sig in self._signal_numbers
        try:
            # It fails outside the main thread, and changes nothing.
            old = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(old)
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from None
        flag = self._signal_add(sig, callback, args)
        try:
            signal.signal(sig, flag)
            # System calls of the user's go on where they were interrupted.
            signal.siginterrupt(sig, False)
        except OSError as error:
            if not known:
                self._signal_remove(sig)
            if error.errno == 22:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        self._signal_numbers.add(sig)

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore the default of the signal. Whether there was a handler.

        SIGINT gets Python's own, which raises KeyboardInterrupt.
        """
        self._check_signal(sig)
        if sig not in self._signal_numbers:
            return False
        self._signal_numbers.discard(sig)
        self._signal_remove(sig)
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == 22:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        return True

    def _close_signals(self) -> None:
        if self._signal_numbers and sys.is_finalizing():
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                "skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=3,
            )
            self._signal_numbers.clear()
        for sig in list(self._signal_numbers):
            try:
                self.remove_signal_handler(sig)
            except ValueError:
                # Another thread than the main one closes the loop: dispositions are out of reach.
                self._signal_numbers.discard(sig)

    @staticmethod
    def _check_signal(sig: object) -> None:
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")
