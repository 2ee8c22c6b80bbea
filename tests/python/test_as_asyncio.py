"""Details that other people's programs and tests look at: asyncio's loop is the judge of each."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("ledger")


def refused_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_refused_connection_leaves_no_cycle_around_its_exception(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[Any]:
        caught = None
        try:
            await any_loop.create_connection(asyncio.Protocol, "127.0.0.1", refused_port())
        except OSError as error:
            caught = error
        await asyncio.sleep(0)  # The future of the attempt is still somewhere in this turn.
        return [type(it) for it in gc.get_referrers(caught)]

    assert any_loop.run_until_complete(main()) == []


def test_a_timer_handle_that_was_made_by_hand_can_be_cancelled(any_loop: asyncio.AbstractEventLoop) -> None:
    handle = asyncio.TimerHandle(any_loop.time() + 60, print, (), any_loop)
    handle._scheduled = True  # type: ignore[attr-defined]
    handle.cancel()
    assert handle.cancelled()


def test_a_signal_handler_that_is_a_coroutine_is_told_so(any_loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None: ...

    coroutine = main()
    for wrong in (main, coroutine):
        with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
            any_loop.add_signal_handler(signal.SIGUSR1, wrong)  # type: ignore[arg-type]
    coroutine.close()


@pytest.mark.parametrize("factory", ["asyncio.SelectorEventLoop", "tepal.new_event_loop"])
def test_a_loop_with_signal_handlers_can_be_closed_by_the_dying_interpreter(
    factory: str, program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = program(
        "import asyncio, signal, sys, tepal\n"
        f"loop = {factory}()\n"
        "loop.add_signal_handler(signal.SIGUSR1, print)\n"
        "class Last:\n"
        "    def __del__(self, loop=loop, told=sys.stderr):\n"
        "        loop.close()\n"
        "        print('closed', loop.is_closed(), file=told)\n"
        # Modules are taken down after the interpreter is marked as finalizing.
        "sys.modules['last'] = Last()\n"
        "sys.warnoptions.clear()\n"
        "import warnings; warnings.simplefilter('always')\n"
    )
    assert done.returncode == 0, done.stderr
    assert "closed True" in done.stderr
    assert "skipping signal handlers removal" in done.stderr
