"""Runs an existing asyncio program, unchanged, on tepal's loop: `python -m tepal`."""

from __future__ import annotations

import asyncio
import multiprocessing.util
import os
import runpy
import sys
import traceback
from selectors import BaseSelector
from typing import Any

from ._loop import Loop
from ._tepal import __version__

USAGE = """\
usage: python -m tepal [OPTION...] PROGRAM.py [ARGUMENT...]
       python -m tepal [OPTION...] -m MODULE [ARGUMENT...]
       python -m tepal [OPTION...] -c CODE [ARGUMENT...]

Runs an asyncio program on tepal's event loop, without a change to it.

options:
  --driver NAME  epoll or poll; else what TEPAL_DRIVER names, or the best there is
  --version      show the version and exit
  -h, --help     show this text and exit

A program that picks a loop of its own (uvloop, for instance) keeps it; that is told on standard
error. Processes that multiprocessing starts for the program get this loop too, as the workers of
uvicorn do; others that it starts are ordinary ones.
"""


class UsageError(Exception):
    """The command line is wrong; the message says how."""


def main(arguments: list[str]) -> int | None:
    """Run the program that the arguments name. Returns the exit status, None for success."""
    try:
        driver, kind, rest = parse(arguments)
    except UsageError as error:
        print(f"python -m tepal: {error}\n\n{USAGE}", end="", file=sys.stderr)
        return 2
    if kind == "help":
        print(USAGE, end="")
        return 0
    if kind == "version":
        print(f"tepal {__version__}")
        return 0
    try:
        install(driver)
    except (ValueError, OSError) as error:
        print(f"python -m tepal: {error}", file=sys.stderr)
        return 2
    name = rest[0]
    if kind == "file":
        if not os.path.exists(name):
            print(f"python -m tepal: there is no file {name!r}", file=sys.stderr)
            return 2
        sys.argv = rest
        look_first_in(os.path.dirname(os.path.abspath(name)))
        runpy.run_path(name, run_name="__main__")
        return None
    # As with `python -m` and `python -c`: modules are looked for where the user is.
    look_first_in("")
    if kind == "module":
        sys.argv = rest
        look_first_in(os.getcwd())
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except ImportError as error:
            # runpy's own, without a cause in the program: the module itself is not there.
            if error.__cause__ is None and _raised_by(error) == "runpy":
                print(f"python -m tepal: {error}", file=sys.stderr)
                return 2
            raise
        return None
    sys.argv = ["-c", *rest[1:]]
    code = compile(name, "<string>", "exec")
    namespace = sys.modules["__main__"].__dict__
    namespace["__name__"] = "__main__"
    exec(code, namespace)
    return None


def look_first_in(directory: str) -> None:
    """Make it what `python -m` has put in front of the path, which is nothing with -P and -I."""
    if not sys.flags.safe_path:
        sys.path[0] = directory


def _raised_by(error: BaseException) -> str | None:
    """The name of the module whose code raised it."""
    module = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__")
    return module


def parse(arguments: list[str]) -> tuple[str | None, str, list[str]]:
    """The driver, what to run (file, module, code, help, version), and its arguments."""
    driver: str | None = None
    rest = list(arguments)
    while rest:
        word = rest[0]
        if word in ("-h", "--help"):
            return driver, "help", []
        if word == "--version":
            return driver, "version", []
        if word == "--driver" or word.startswith("--driver="):
            rest.pop(0)
            if word == "--driver":
                if not rest:
                    raise UsageError("--driver needs a name")
                driver = rest.pop(0)
            else:
                driver = word.partition("=")[2]
            continue
        if word in ("-m", "-c"):
            if len(rest) < 2:
                raise UsageError(f"{word} needs {'a module' if word == '-m' else 'code'}")
            return driver, "module" if word == "-m" else "code", rest[1:]
        if word == "--" and len(rest) > 1:
            return driver, "file", rest[1:]
        if word.startswith("-"):
            raise UsageError(f"unknown option {word!r}")
        return driver, "file", rest
    raise UsageError("nothing to run")


def install(driver: str | None = None) -> None:
    """Make this process's asyncio use tepal's loop, whichever of asyncio's names asks for one.

    Raises:
        ValueError: the driver is unknown here.
    """
    Loop(driver=driver).close()

    class ProgramLoop(Loop):
        """What `asyncio.SelectorEventLoop` is in this process. A selector is closed: the loop
        has its own."""

        def __init__(self, selector: BaseSelector | None = None) -> None:
            if selector is not None:
                selector.close()
            super().__init__(driver=driver)

    ProgramLoop.__name__ = ProgramLoop.__qualname__ = "Loop"
    ProgramLoop.__module__ = Loop.__module__
    from asyncio import events, unix_events

    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, ProgramLoop)
    for name in ("_UnixDefaultEventLoopPolicy", "_DefaultEventLoopPolicy"):
        policy = getattr(unix_events, name, None)
        if policy is not None:
            policy._loop_factory = ProgramLoop

    set_running_loop = events._set_running_loop
    told = False

    def watch_running_loop(loop: Any) -> None:
        nonlocal told
        if loop is not None and not isinstance(loop, Loop) and not told:
            told = True
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            print(
                f"python -m tepal: the program picked a loop of its own, {kind}, and runs on that; "
                "look for its option to use asyncio's (uvicorn: --loop asyncio)",
                file=sys.stderr,
            )
        set_running_loop(loop)

    for module in (asyncio, events):
        module._set_running_loop = watch_running_loop  # type: ignore[attr-defined]

    start = multiprocessing.util.spawnv_passfds

    def start_through_here(path: Any, words: list[Any], descriptors: Any) -> int:
        """What multiprocessing starts is `python [option...] -c code [mark]`: a process that is
        spawned, the server that forks others, or the tracker of resources, which runs no program."""
        if "-c" in words[1:]:
            place = words.index("-c", 1)
            if "resource_tracker" not in words[place + 1]:
                chosen = [] if driver is None else [f"--driver={driver}"]
                words = [*words[:place], "-m", "tepal", *chosen, *words[place:]]
        return start(path, words, descriptors)

    multiprocessing.util.spawnv_passfds = start_through_here
