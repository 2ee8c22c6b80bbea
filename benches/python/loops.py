"""The loops that are compared, by name, and how to get one."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable

Factory = Callable[[], asyncio.AbstractEventLoop]

NAMES = ["asyncio", "uvloop", "rloop", "aiofastnet", "tepal"]


def is_installed(name: str) -> bool:
    needed = ["aiofastnet", "uvloop"] if name == "aiofastnet" else [name]
    return all(importlib.util.find_spec(module) for module in needed)


def factory(name: str) -> Factory:
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if name == "aiofastnet":
        import uvloop

        return uvloop.new_event_loop
    return importlib.import_module(name).new_event_loop
