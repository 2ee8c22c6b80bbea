"""What random programs are made of: a trace of what they see, and turns instead of time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

# Both loops get as many milliseconds as this where a kernel or another process is to be waited for.
PAUSE = 0.001

Program = Callable[["Kit"], Coroutine[Any, Any, None]]


class Kit:
    """The choices of one program, and its traces: one for each thing whose order is its own.

    What two ends of a connection see has no order that a loop must keep, so each end has a trace.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.traces: dict[str, list[Any]] = {}

    def note(self, who: str, *what: Any) -> None:
        self.traces.setdefault(who, []).append(what)

    def choose(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def size(self, most: int) -> int:
        return self.random.randrange(most)

    @contextlib.asynccontextmanager
    async def noting(self, who: str, *what: Any) -> AsyncIterator[None]:
        """Notes what is raised in the block and goes on."""
        try:
            yield
        except (Exception, asyncio.CancelledError) as error:
            self.note(who, *what, told(error))

    async def outcome(
        self, who: str, what: str, awaitable: Awaitable[Any], show: Callable[[Any], Any] = repr, cancels: bool = True
    ) -> None:
        """Awaits it and notes its result or exception; perhaps it is cancelled on the way."""
        task = asyncio.ensure_future(awaitable)
        if cancels and self.chance(0.1):
            for _ in range(self.size(4)):
                await asyncio.sleep(0)
            task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.3)
        if not done:
            task.cancel()
            self.note(who, what, "waits for ever")
        elif task.cancelled():
            self.note(who, what, "cancelled")
        elif error := task.exception():
            self.note(who, what, told(error))
        else:
            self.note(who, what, show(task.result()))

    async def settle(self, times: int = 5) -> None:
        """Lets both ends hear what is on its way."""
        for _ in range(times):
            await asyncio.sleep(PAUSE)


def told(error: BaseException) -> tuple[str, str]:
    """An exception as a program sees it, without numbers that differ from run to run."""
    # 3.11 joins the lines and calls `write`, which its message says.
    text = str(error).replace("writelines()", "write()")
    text = re.sub(r"0x[0-9a-f]+|\d{4,}|fd=\d+", "N", text)
    # OpenSSL's own file and line.
    return type(error).__name__, re.sub(r"\(_ssl\.c:N?\d*\)", "", text)


def run(factory: Callable[[], asyncio.AbstractEventLoop], program: Program, seed: int) -> dict[str, list[Any]]:
    """The traces of a program on a loop; "reports" are what its exception handler heard."""
    kit = Kit(seed)

    def report(_: Any, context: dict[str, Any]) -> None:
        message = re.sub(r"<.*|0x[0-9a-f]+", "", context["message"], flags=re.S).split(":")[0]
        # Which of asyncio's own methods called the protocol is its affair.
        message = re.sub(r"(Exception in callback) .*", r"\1", message)
        kit.note("reports", message[:50], type(context.get("exception")).__name__)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(report)
        await asyncio.wait_for(program(kit), 30)

    with asyncio.Runner(loop_factory=factory, debug=False) as runner:
        try:
            runner.run(main())
        except Exception as error:
            kit.note("end", told(error))
    gc.collect()
    kit.traces.get("reports", []).sort()
    return kit.traces


def difference(first: dict[str, list[Any]], second: dict[str, list[Any]]) -> str:
    """Where two runs differ first, trace by trace; empty if nowhere."""
    lines = []
    for who in sorted(first.keys() | second.keys()):
        one, two = first.get(who, []), second.get(who, [])
        if one != two:
            count = next((n for n, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), min(len(one), len(two)))
            lines.append(f"{who}: after {one[max(0, count - 3) : count]}\n  asyncio {one[count : count + 3]}\n  tepal   {two[count : count + 3]}")
    return "\n".join(lines)
