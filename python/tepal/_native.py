"""What the native half lets Python do: reports, checks, and what differs between interpreters."""

from __future__ import annotations

import asyncio
import inspect
import sys
from asyncio import base_events, coroutines, format_helpers
from collections.abc import Callable
from types import TracebackType
from typing import Any


def shown(thing: object) -> str:
    """The repr of something of the user's, or what can be said of it without."""
    try:
        return repr(thing)
    except Exception:
        return object.__repr__(thing)


def callback_failed(handle: Any, error: BaseException) -> None:
    """Tell the loop's exception handler what a callback raised."""
    try:
        callback = format_callback(handle)
    except Exception:
        # Of what has no repr, or a hostile one, its type is told.
        callback = shown(handle._callback)
    context: dict[str, Any] = {
        "message": f"Exception in callback {callback}",
        "exception": error,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    try:
        handle._loop.call_exception_handler(context)
    finally:
        # The frame is in the traceback of what it holds.
        del context, error


def callback_was_slow(handle: Any, seconds: float) -> None:
    """Debug mode: complain of a callback that held up the loop."""
    if seconds >= handle._loop.slow_callback_duration:
        base_events.logger.warning("Executing %s took %.3f seconds", format_handle(handle), seconds)


def trouble(context: str, error: BaseException) -> None:
    """Log what belongs to no caller."""
    base_events.logger.error("%s: %s", context, error)


if "debug" in inspect.signature(format_helpers._format_callback_source).parameters:

    def format_callback(handle: Any) -> str:
        """A callback with where it is from; its arguments in debug mode, since they may be secret."""
        debug = handle._loop.get_debug()
        return str(
            format_helpers._format_callback_source(handle._callback, handle._args, debug=debug)
        )

else:

    def format_callback(handle: Any) -> str:
        """A callback with its arguments and where it is from."""
        return str(format_helpers._format_callback_source(handle._callback, handle._args or ()))


def format_handle(handle: Any) -> str:
    """A handle as a person wants to see it: the task it steps, if it does."""
    callback = handle._callback
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return repr(task)
    return str(handle)


def handle_repr(handle: Any, is_timer: bool) -> str:
    """The repr of a handle, in asyncio's form."""
    info = [handle.__class__.__name__]
    if handle._cancelled:
        info.append("cancelled")
    if is_timer:
        info.append(f"when={handle._when}")
    if handle._callback is not None:
        info.append(format_callback(handle))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return "<{}>".format(" ".join(info))


def extract_stack() -> Any:
    """Where the native method was called from."""
    # This function's frame is the innermost; the caller's caller is native and has none.
    return format_helpers.extract_stack(sys._getframe(1))


def check_callback(callback: object, method: str) -> None:
    """Refuse what is no callback, in asyncio's words."""
    if coroutines.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")


def wrong_thread() -> None:
    """Debug mode: a method that is not thread-safe was called from another thread."""
    raise RuntimeError(
        "Non-thread-safe operation invoked on an event loop other than the current one"
    )


def task_of_factory(
    factory: Callable[..., Any], loop: Any, coro: Any, keywords: dict[str, Any]
) -> Any:
    """Make a task by the user's factory, with the arguments that this Python gives it."""
    if PASSES_NAME:
        return factory(loop, coro, **keywords)
    name = keywords.pop("name", None)
    context = keywords.pop("context", None)
    if keywords:
        raise TypeError(
            f"create_task() got an unexpected keyword argument {next(iter(keywords))!r}"
        )
    task = factory(loop, coro) if context is None else factory(loop, coro, context=context)
    set_name(task, name)
    return task


def _passes_name() -> bool:
    parameters = inspect.signature(asyncio.BaseEventLoop.create_task).parameters
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


# From 3.13.3 on a factory gets every keyword of create_task, the name too.
PASSES_NAME = _passes_name()

if sys.version_info >= (3, 13):

    def set_name(task: Any, name: object) -> None:
        if name is not None:
            task.set_name(name)

else:
    # Before 3.13 a foreign task without set_name was let be.
    set_name = asyncio.tasks._set_task_name  # type: ignore[attr-defined]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def finish_future(future: asyncio.Future[Any], value: object, error: BaseException | None) -> None:
    """End a future of an operation, unless its owner has given it up."""
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


def layer_failed(name: str, error: BaseException) -> bool:
    """Tell of a layer written in Python that raised. Whether it blames the peer."""
    # By its name: this module is loaded before the package's classes are.
    if any(cls.__name__ == "LayerError" for cls in type(error).__mro__):
        return True
    loop = asyncio._get_running_loop()
    if loop is not None:
        loop.call_exception_handler(
            {"message": f"Exception in the layer {name!r}", "exception": error}
        )
    return False
