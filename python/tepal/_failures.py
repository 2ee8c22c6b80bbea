"""What happens to exceptions that no caller gets."""

from __future__ import annotations

import sys
import traceback
from asyncio import base_events
from collections.abc import Callable
from typing import Any

Context = dict[str, Any]
Handler = Callable[[Any, Context], object]

# From 3.12 on a handler runs in the context of the task, future or handle that failed.
RUNS_IN_CONTEXT = sys.version_info >= (3, 12)

STACKS = {"source_traceback": "Object", "handle_traceback": "Handle"}


class Failures:
    """The exception handlers of `Loop`."""

    def _init_failures(self) -> None:
        self._exception_handler: Handler | None = None

    def get_exception_handler(self) -> Handler | None:
        """What `set_exception_handler` set."""
        return self._exception_handler

    def set_exception_handler(self, handler: Handler | None) -> None:
        """Set what is called with the loop and a context of each lost exception.

        None restores the default: the `asyncio` logger gets it.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: Context) -> None:
        """Log a lost exception with all that is known of it."""
        error = context.get("exception")
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context.keys() - {"message", "exception"}):
            value = context[key]
            if key in STACKS:
                stack = "".join(traceback.format_list(value)).rstrip()
                lines.append(f"{key}: {STACKS[key]} created at (most recent call last):\n{stack}")
            else:
                lines.append(f"{key}: {value!r}")
        info = None if error is None else (type(error), error, error.__traceback__)
        base_events.logger.error("\n".join(lines), exc_info=info or False)

    def call_exception_handler(self, context: Context) -> None:
        """Give a lost exception to the handler.

        A handler that fails is reported by the default one. Only SystemExit and KeyboardInterrupt
        come out of here.
        """
        handler = self._exception_handler
        if handler is None:
            self._report_by_default(context, "Exception in default exception handler")
            return
        try:
            run = _context_run(context) if RUNS_IN_CONTEXT else None
            if run is not None:
                run(handler, self, context)
            else:
                handler(self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report_by_default(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": error,
                    "context": context,
                },
                "Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
            )

    def _report_by_default(self, context: Context, when_it_fails: str) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # A subclass may have overridden it.
            base_events.logger.error(when_it_fails, exc_info=True)


def _context_run(context: Context) -> Callable[..., Any] | None:
    for key in ("task", "future", "handle"):
        thing = context.get(key)
        if thing is not None:
            get_context = getattr(thing, "get_context", None)
            if get_context is None:
                return None
            return getattr(get_context(), "run", None)
    return None
