"""For type checkers: what the parts of `Loop` may use of each other. Never imported when run."""

from __future__ import annotations

import asyncio

from ._tepal import Loop as NativeLoop


class Base(NativeLoop, asyncio.AbstractEventLoop):
    """The native half with asyncio's interface."""
