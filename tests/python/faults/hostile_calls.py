"""Each method of a subject, each of its parameters, each hostile value: on asyncio's loop and on ours.

Run as a program, `hostile_calls.py SUBJECT SEED SHARE`, in an interpreter of its own, since what it looks
for may end the process. It prints a line for each call whose outcome is not asyncio's, and a last one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import logging
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

import tepal  # noqa: E402
from faults.hostile_differences import allowed  # noqa: E402
from faults.hostile_subjects import GOOD, OPERATORS, OURS_ALONE, SUBJECTS, Recipes, nothing, transport_of, use  # noqa: E402
from faults.hostile_values import KEPT, TRAPS, VALUES, Scene  # noqa: E402

# Not called with anything but its rightful arguments, or of another kind.
LEFT_OUT = {"run_forever", "close", "abort", "stop", "serve_forever"}
# asyncio says nothing certain: what is refused depends on names on the network, or on time.
TURNS, WAITS = 20, 10


class Calls(Scene):
    """One call: a loop, a subject, the outcome."""

    other: Any = None
    peer: Any = None

    def own_executor(self) -> Any:
        made = ThreadPoolExecutor(1)
        self.executors.append(made)
        return made

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.executors: list[ThreadPoolExecutor] = []
        self.reports: list[str] = []
        loop.set_exception_handler(self.report)

    def report(self, loop: Any, context: dict[str, Any]) -> None:
        # A task that was pending when it was collected is told of when it is collected.
        if "exception" in context:
            self.reports.append(kind(context["exception"]))


def kind(value: object) -> str:
    """What two loops are to agree on."""
    if isinstance(value, BaseException):
        text = str(value) if type(value) is RuntimeError else ""
        bug = " BUG" if "tepal has a bug" in text or type(value).__name__ == "PanicException" else ""
        return type(value).__name__ + bug
    if value is None or type(value) in (bool, int, float, str, bytes):
        return repr(value)
    return "something"


def parameters_of(method: Any) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name in ("self", "loop") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        yield parameter


def arguments_of(scene: Scene, method: Any, hostile: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    keywords: dict[str, Any] = {}
    for parameter in parameters_of(method):
        if parameter.name == hostile:
            given = value
        elif parameter.default is parameter.empty or parameter.name in ("host", "port", "path"):
            if hostile in ("sock", "local_addr", "remote_addr") and parameter.default is not parameter.empty:
                continue
            given = GOOD[parameter.name](scene)
        else:
            continue
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            args.append(given)
        elif parameter.kind is parameter.KEYWORD_ONLY or parameter.default is not parameter.empty:
            keywords[parameter.name] = given
        else:
            args.append(given)
    return args, keywords


async def settle(awaitable: Any, patience: int) -> str:
    task = asyncio.ensure_future(awaitable)
    for turn in range(TURNS + WAITS * patience):
        if task.done():
            break
        await asyncio.sleep(0 if turn < TURNS else 0.001)
    else:
        task.cancel()
        for _ in range(TURNS):
            # It may not even be able to run, as with a context that is none.
            await asyncio.sleep(0)
        return "pending"
    if task.cancelled():
        return "CancelledError"
    error = task.exception()
    if error is not None:
        return kind(error)
    result = task.result()
    for thing in result if isinstance(result, tuple) else (result,):
        if hasattr(thing, "close") and not isinstance(thing, asyncio.AbstractEventLoop):
            thing.close()
    return kind(result)


async def call(scene: Calls, subject: Any, name: str, hostile: str, value: Any, patience: int) -> str:
    args, keywords = arguments_of(scene, judge(subject, name), hostile, value)
    try:
        result = getattr(subject, name)(*args, **keywords)
    except BaseException as error:
        return kind(error)
    if inspect.iscoroutine(result) or (asyncio.isfuture(result) and result is not value):
        try:
            return await settle(result, patience)
        except TypeError as error:
            return kind(error)
    if isinstance(subject, Recipes):
        try:
            await use(scene, result)
        except Exception as error:
            return "when used: " + kind(error)
    return kind(result)


def follow_up(scene: Calls, subject: Any, name: str) -> None:
    """Has what was set used."""
    if name == "set_task_factory":
        scene.loop.create_task(nothing())
    elif name == "set_exception_handler":
        scene.loop.call_exception_handler({"message": "on purpose", "exception": ValueError()})
    elif name == "set_default_executor":
        scene.loop.run_in_executor(None, int)
    elif name == "set_protocol" and scene.peer is not None:
        scene.peer.send(b"data")


async def story(scene: Calls, make: Any, name: str, hostile: str, make_value: Any, patience: int) -> str:
    subject = await make(scene)
    if name in ("sendfile", "start_tls", "join"):
        scene.other = scene.own(await transport_of(scene, "stream"))
    told = await call(scene, subject, name, hostile, make_value(scene), patience)
    try:
        follow_up(scene, subject, name)
    except BaseException as error:
        told += " then " + kind(error)
    for _ in range(3):
        await asyncio.sleep(0)
    if subject is not scene.loop and hasattr(subject, "close"):
        try:
            subject.close()
        except BaseException as error:
            told += " at close " + kind(error)
        for _ in range(3):
            await asyncio.sleep(0)
    return told


# Who looks at a wrong thing's attributes hears AttributeError, who looks at its type TypeError.
WRONG_TYPE = ("TypeError", "AttributeError", "NotImplementedError")
BUGS = ("BUG", "SystemError", "PanicException", "left the run", "MemoryError", "RecursionError")


class Outcome:
    """What came of a call: its result, what the loop's exception handler was told, what nobody was."""

    def __init__(self, told: str, reports: set[str], unraisable: set[str]) -> None:
        self.told, self.reports, self.unraisable = told, reports, unraisable

    def is_as(self, theirs: Outcome) -> bool:
        if theirs.is_bad() or theirs.told == "pending":
            # asyncio's loop is no model here.
            return not self.is_bad()
        both_refuse = self.told in WRONG_TYPE and theirs.told in WRONG_TYPE
        return self.reports == theirs.reports and (self.told == theirs.told or both_refuse)

    def is_bad(self) -> bool:
        return any(bug in str(self) for bug in BUGS)

    def __repr__(self) -> str:
        return f"{self.told} {sorted(self.reports) or ''} {sorted(self.unraisable) or ''}".strip()


def outcome(factory: Any, make: Any, name: str, hostile: str, make_value: Any, patience: int = 1) -> Outcome:
    loop = factory()
    scene = Calls(loop)
    unraisable: list[str] = []
    sys.unraisablehook = lambda told: unraisable.append(kind(told.exc_value))
    told = "?"
    try:
        told = loop.run_until_complete(story(scene, make, name, hostile, make_value, patience))
    except BaseException as error:
        stopped = type(error) is RuntimeError and "stopped before" in str(error)
        told = "stopped" if stopped else "left the run: " + kind(error)
    try:
        if not loop.is_closed():
            loop.set_task_factory(None)
            loop.set_debug(False)
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
    except BaseException as error:
        told += " in the end " + kind(error)
    scene.close()
    loop.close()
    for executor in scene.executors:
        executor.shutdown()
    return Outcome(told, set(scene.reports), set(unraisable))


def judge(subject: Any, name: str) -> Any:
    """The method whose signature holds: asyncio's, where it has it."""
    for cls in (asyncio.SelectorEventLoop, asyncio.base_events.Server, asyncio.TimerHandle):
        if isinstance(subject, cls.__mro__[-2]) and hasattr(cls, name):
            return getattr(cls, name)
    for cls in (asyncio.transports._FlowControlMixin, asyncio.DatagramTransport, asyncio.SubprocessTransport):
        if isinstance(subject, cls) and hasattr(cls, name):
            return getattr(cls, name)
    return getattr(type(subject), name)


def main(subject: str, seed: str, share: str) -> None:
    faulthandler.enable()
    logging.disable()
    draw = random.Random(seed)
    make = SUBJECTS[subject]

    probe = tepal.new_event_loop() if subject in OURS_ALONE else asyncio.SelectorEventLoop()
    scene = Calls(probe)
    made = probe.run_until_complete(make(scene))
    names = [n for n in dir(made) if (not n.startswith("_") or n in OPERATORS) and callable(getattr(made, n)) and n not in LEFT_OUT]
    plan = []
    for name in names:
        for parameter in parameters_of(judge(made, name)):
            plan += [(name, parameter.name, value) for value in VALUES]
    # A call for each of its bytes; so much memory; and what asyncio's loop does not survive.
    never = [("list_of_data", "large map"), ("enabled", "released view"), ("n", "2**31"), ("bufsize", "2**31")]
    plan = [call for call in plan if call[1:] not in never]
    if made is not probe and hasattr(made, "close"):
        made.close()
    probe.run_until_complete(asyncio.sleep(0.01))
    scene.close()
    probe.close()
    plan = sorted(draw.sample(plan, round(len(plan) * float(share))))
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        differ = 0
        for name, hostile, value in plan:
            at = f"{name}({hostile}={value})"
            # Read by whoever finds this process dead.
            print("at", at, file=sys.stderr, flush=True)
            faulthandler.dump_traceback_later(30, exit=True)
            call = (make, name, hostile, VALUES[value])
            call = (make, name, hostile, VALUES[value])
            ours = outcome(tepal.new_event_loop, *call)
            theirs = None
            bad = ours.is_bad()
            if value not in TRAPS and subject not in OURS_ALONE:
                theirs = outcome(asyncio.SelectorEventLoop, *call)
                for patience in (10, 100):
                    if (ours.told == "pending") != (theirs.told == "pending"):
                        ours = outcome(tepal.new_event_loop, *call, patience)
                        theirs = outcome(asyncio.SelectorEventLoop, *call, patience)
                bad = bad or (not ours.is_as(theirs) and not allowed(at))
            if bad:
                differ += 1
                print(f"{at}: ours {ours}, theirs {theirs}", flush=True)
            KEPT.clear()
            for left in os.listdir():
                os.unlink(left)
        os.chdir("/")
    gc.collect()
    print(f"{len(plan)} calls, {differ} differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
