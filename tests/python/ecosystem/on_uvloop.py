"""A pytest plugin for uvloop's tests: they get the loop that asyncio makes, and expect asyncio's
behaviour where they know two."""

from __future__ import annotations

import asyncio

from uvloop import _testbase

_testbase.UVTestCase.implementation = "asyncio"
_testbase.UVTestCase.new_loop = lambda self: asyncio.new_event_loop()
_testbase.UVTestCase.new_policy = lambda self: asyncio.DefaultEventLoopPolicy()
_testbase.BaseTestCase.is_asyncio_loop = lambda self: True
