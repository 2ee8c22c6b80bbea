"""The pipes of child processes: asyncio's loop is the judge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from recorders import Loop, turn

pytestmark = pytest.mark.usefixtures("ledger")


class Told(asyncio.SubprocessProtocol):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.data = {1: b"", 2: b""}
        self.errors: dict[int, BaseException | None] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.heard.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        assert fd not in self.errors
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, error: BaseException | None) -> None:
        self.errors[fd] = error
        self.heard.append(fd)

    def process_exited(self) -> None:
        self.heard.append("exited")

    def connection_lost(self, error: BaseException | None) -> None:
        self.error = error
        self.heard.append("lost")


def start(loop: Loop, script: str) -> Told:
    made = loop.subprocess_exec(Told, "sh", "-c", script)
    return loop.run_until_complete(asyncio.wait_for(made, 10))[1]  # type: ignore[return-value]


def finish(loop: Loop, told: Told) -> None:
    turn(loop, lambda: "lost" in told.heard)
    told.transport.close()


def test_a_protocol_hears_everything_once_and_in_order(any_loop: Loop) -> None:
    told = start(any_loop, "cat; echo an error >&2; exit 7")
    stdin, stdout = told.transport.get_pipe_transport(0), told.transport.get_pipe_transport(1)
    assert isinstance(stdin, asyncio.WriteTransport) and isinstance(stdout, asyncio.ReadTransport)
    stdin.write(b"for the child")
    stdin.write_eof()
    finish(any_loop, told)
    assert (told.heard[0], told.heard[-1]) == ("made", "lost")
    assert sorted(told.heard, key=str) == [0, 1, 2, "exited", "lost", "made"]
    assert told.data == {1: b"for the child", 2: b"an error\n"}
    assert (told.errors, told.error) == ({0: None, 1: None, 2: None}, None)
    assert told.transport.get_returncode() == 7


def test_a_child_that_closes_its_input_is_heard_of(any_loop: Loop) -> None:
    told = start(any_loop, "exec 0<&-; exec sleep 100")
    turn(any_loop, lambda: 0 in told.errors)
    assert told.errors[0] is None
    told.transport.kill()
    finish(any_loop, told)


def test_a_child_that_leaves_its_input_unread_breaks_the_pipe(any_loop: Loop) -> None:
    told = start(any_loop, "read line; exit 3")
    told.transport.get_pipe_transport(0).write(b"a line\n" + bytes(4 << 20))
    finish(any_loop, told)
    assert isinstance(told.errors[0], (BrokenPipeError, ConnectionResetError))
    assert told.transport.get_returncode() == 3


def test_a_child_is_killed_with_full_pipes(any_loop: Loop) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec("sh", "-c", "exec yes", stdin=-1, stdout=-1, limit=1000)
        assert child.stdin and child.stdout
        child.stdin.write(bytes(4 << 20))
        # Both directions stand still now.
        await child.stdout.readexactly(5000)
        child.kill()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await child.stdin.drain()
        rest = await child.stdout.read()
        assert rest and set(rest) == set(b"y\n")
        assert await child.wait() == -9

    any_loop.run_until_complete(asyncio.wait_for(main(), 20))


def test_much_is_communicated_in_all_directions(any_loop: Loop) -> None:
    async def main() -> None:
        child = await asyncio.create_subprocess_exec(
            "sh", "-c", "tee /dev/stderr", stdin=-1, stdout=-1, stderr=-1
        )
        much = bytes(range(256)) * (1 << 14)
        out, err = await child.communicate(much)
        assert out == much and err == much and child.returncode == 0

    any_loop.run_until_complete(asyncio.wait_for(main(), 30))


def test_many_children_talk_at_once(any_loop: Loop) -> None:
    async def talk(number: int) -> bytes:
        child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        text = str(number).encode() * 1000
        out, _ = await child.communicate(text)
        assert child.returncode == 0
        return out[: len(str(number))]

    async def main() -> None:
        assert await asyncio.gather(*map(talk, range(40))) == [str(n).encode() for n in range(40)]

    any_loop.run_until_complete(asyncio.wait_for(main(), 40))


def test_what_a_child_says_is_paused(any_loop: Loop) -> None:
    told = start(any_loop, "echo one; read line; echo two")
    turn(any_loop, lambda: told.data[1])
    stdout = told.transport.get_pipe_transport(1)
    stdout.pause_reading()
    told.transport.get_pipe_transport(0).write(b"go on\n")
    turn(any_loop, lambda: "exited" in told.heard)
    assert (told.data[1], 1 in told.errors) == (b"one\n", False)
    stdout.resume_reading()
    finish(any_loop, told)
    assert told.data[1] == b"one\ntwo\n"


def test_a_transport_that_is_closed_takes_its_child_along(any_loop: Loop) -> None:
    told = start(any_loop, "cat; sleep 100")
    told.transport.get_pipe_transport(0).write(bytes(4 << 20))
    told.transport.close()
    turn(any_loop, lambda: "lost" in told.heard)
    assert told.transport.get_returncode() == -9
    assert set(told.errors) == {0, 1, 2}


def test_a_start_that_is_cancelled_leaves_no_pipe(any_loop: Loop) -> None:
    """Cancelled in each turn in which it is not done."""

    async def main(turns: int) -> bool:
        task = any_loop.create_task(any_loop.subprocess_exec(Told, "sleep", "100"))
        for _ in range(turns):
            await asyncio.sleep(0)
        cut = not task.done()
        task.cancel()
        if not cut:
            task.result()[0].close()
        await asyncio.wait([task], timeout=10)
        # The pipes hear of the child's end.
        await asyncio.sleep(0.01)
        return cut

    turns = 1
    while any_loop.run_until_complete(main(turns)):
        turns += 1
    any_loop.run_until_complete(asyncio.sleep(0.01))
    assert turns > 2
