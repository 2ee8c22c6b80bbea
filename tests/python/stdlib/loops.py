"""Puts a loop under CPython's own asyncio tests, from outside.

The tests of `test.test_asyncio` get their loops by a handful of names. `replace` gives those names
to a stand-in that makes loops with another factory, before any test module is imported, and counts
what it makes: a test that passes without a loop of ours has shown nothing about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import weakref
from collections.abc import Callable
from typing import Any

Factory = Callable[[], asyncio.AbstractEventLoop]


class LoopClass:
    """Takes the place of the class `asyncio.SelectorEventLoop`: it can be called, derived from, and
    asked about instances. A selector given to it is closed, since the loop has its own."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self.made = 0
        loop = factory()
        self._class = type(loop)
        loop.close()

    def __call__(self, selector: Any = None) -> asyncio.AbstractEventLoop:
        if selector is not None:
            selector.close()
        self.made += 1
        return self._factory()

    def __mro_entries__(self, bases: tuple[type, ...]) -> tuple[type, ...]:
        count, base = self, self._class

        class Counted(base):  # type: ignore[misc, valid-type]
            def __init__(self, selector: Any = None) -> None:
                count.made += 1
                super().__init__()

        return (Counted,)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._class)

    def __subclasscheck__(self, other: type) -> bool:
        return issubclass(other, self._class)


def find(spec: str) -> Factory:
    """The factory that `module:name` names, such as `tepal:new_event_loop`."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name or "new_event_loop")


def replace(factory: Factory) -> LoopClass:
    """Makes asyncio and its tests use loops of `factory`."""
    from asyncio import unix_events

    from test.test_asyncio import utils

    def with_turn() -> asyncio.AbstractEventLoop:
        # Some tests make one turn by the private name that asyncio has for it.
        loop = factory()
        if not hasattr(loop, "_run_once"):

            def run_once(self: Any = weakref.proxy(loop)) -> None:
                self.stop()
                self.run_forever()

            with contextlib.suppress(AttributeError):  # A loop without a dictionary goes without.
                loop._run_once = run_once  # type: ignore[attr-defined]
        return loop

    stand_in = LoopClass(with_turn)
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, stand_in)
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        if hasattr(unix_events, name):
            getattr(unix_events, name)._loop_factory = stand_in

    original_test_loop = utils.TestCase.new_test_loop

    def new_test_loop(self: Any, gen: Any = None) -> asyncio.AbstractEventLoop:
        # A generator drives the false clock of asyncio's own test loop.
        if gen is not None:
            return original_test_loop(self, gen)
        loop = stand_in()
        self.set_event_loop(loop)
        return loop

    def close_loop(loop: asyncio.AbstractEventLoop) -> None:
        # The original looks at `_default_executor` to see whether this is needed. Some tests have
        # replaced a method, which this needs.
        vars(loop).pop("call_soon", None)
        if not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(loop.shutdown_default_executor())
        executor = getattr(loop, "_default_executor", None)
        if executor is not None:
            executor.shutdown(wait=True)
        loop.close()

    def run_loop(self: Any, loop: asyncio.AbstractEventLoop) -> None:
        # The original looks into `_ready` to see when nothing is left to do.
        for _ in range(20):
            utils.run_briefly(loop)

    with contextlib.suppress(ImportError):
        from test.test_asyncio import test_tasks

        test_tasks.GatherTestsBase._run_loop = run_loop
    with contextlib.suppress(ImportError):
        from test.test_asyncio import test_base_events

        def set_up(self: Any) -> None:
            # The original makes a bare BaseEventLoop over a mock of a selector; most of the tests
            # ask for nothing that only this has.
            utils.TestCase.setUp(self)
            self.loop = stand_in()
            self.set_event_loop(self.loop)

        test_base_events.BaseEventLoopTests.setUp = set_up
    utils.TestCase.new_test_loop = new_test_loop
    utils.TestCase.close_loop = staticmethod(close_loop)
    return stand_in
