"""A pytest plugin for uvloop's tests: they get the loop that asyncio makes, and expect asyncio's
behaviour where they know two."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from uvloop import _testbase

_testbase.UVTestCase.implementation = "asyncio"
_testbase.UVTestCase.new_loop = lambda self: asyncio.new_event_loop()
_testbase.UVTestCase.new_policy = lambda self: asyncio.DefaultEventLoopPolicy()
_testbase.BaseTestCase.is_asyncio_loop = lambda self: True


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """The programs that some tests start make the loop that is tested, too."""
    module = "tepal" if "on_tepal" in sys.modules else "asyncio"
    for item in items:
        if hasattr(item.cls, "NEW_LOOP"):
            item.cls.NEW_LOOP = f"__import__('{module}').new_event_loop()"
