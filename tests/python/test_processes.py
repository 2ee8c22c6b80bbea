"""Child processes and pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ledgers import descriptors

PYTHON = sys.executable


def test_a_childs_output_and_status_come_back(loop: Any, run: Any) -> None:
    async def main() -> None:
        code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)"
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", code, stdin=-1, stdout=-1)
        out, err = await process.communicate(b"hello" * 50_000)
        assert (out, err, process.returncode) == (b"HELLO" * 50_000, None, 7)

    run(main())


def test_keywords_of_popen_reach_the_child(loop: Any, run: Any, tmp_path: Any) -> None:
    reader, writer = os.pipe()

    async def main() -> None:
        code = f"import os; os.write({writer}, b'passed'); print(os.getcwd(), os.environ['NAME'], os.getsid(0) == os.getpid())"
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-c", code, stdout=-1, cwd=tmp_path, env={"NAME": "value"}, start_new_session=True,
            pass_fds=(writer,), restore_signals=True, umask=0o77,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert out.decode().split() == [str(tmp_path.resolve()), "value", "True"]
        assert os.read(reader, 99) == b"passed"

    run(main())
    os.close(reader)
    os.close(writer)


def test_many_children_end_each_with_its_own_status(loop: Any, run: Any) -> None:
    async def child(status: int) -> int:
        process = await asyncio.create_subprocess_shell(f"exit {status}")
        return await process.wait()

    async def main() -> None:
        assert await asyncio.gather(*map(child, range(40))) == list(range(40))

    run(main())


def test_a_status_that_the_kernel_refuses_is_told_once_and_leaves_nothing_open(
    loop: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(pid: int, options: int) -> tuple[int, int]:
        asked.append(pid)
        raise OSError("unexpected")

    async def main() -> None:
        before = descriptors()
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", "input()", stdin=-1, stderr=-3)
        with monkeypatch.context() as patch:
            patch.setattr(os, "waitpid", refuse)
            process.stdin.close()
            while not asked:
                await asyncio.sleep(0)
            for _ in range(3):
                await asyncio.sleep(0)
        assert asked == [process.pid]
        assert [str(context["exception"]) for context in loop.reports] == ["unexpected"]
        loop.reports.clear()
        os.waitpid(process.pid, 0)
        process._transport._process_exited(0)
        assert await process.wait() == 0
        assert descriptors() == before

    run(main())


def test_children_are_watched_in_threads_other_than_the_main_one() -> None:
    import tepal

    results = []

    async def main() -> int:
        process = await asyncio.create_subprocess_exec(PYTHON, "-c", "raise SystemExit(3)")
        return await process.wait()

    thread = threading.Thread(target=lambda: results.append(tepal.run(main())))
    thread.start()
    thread.join(10)
    assert results == [3]


def test_a_signal_ends_a_child(loop: Any, run: Any) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            process.kill()

    run(main())


def test_at_fork_hooks_do_not_run(loop: Any, run: Any) -> None:
    calls: list[int] = []
    os.register_at_fork(before=lambda: calls.append(1))

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0

    run(main())
    assert not calls


def test_a_missing_program_leaves_nothing_behind(loop: Any, run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec(tmp_path / "no", stdout=-1, stdin=-1)

    run(main())


def test_pipes_carry_bytes_and_tell_their_ends(loop: Any, run: Any) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        read_transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        assert isinstance(read_transport, asyncio.ReadTransport)
        write_transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(writing, "wb", 0))
        assert isinstance(write_transport, asyncio.WriteTransport)
        write_transport.write(b"x" * 300_000)
        write_transport.write_eof()
        assert await reader.read() == b"x" * 300_000
        read_transport.close()
        await asyncio.sleep(0)

    run(main())


def test_a_loop_that_is_closed_before_a_child_ends_lets_go_of_it() -> None:
    import tepal

    loop = tepal.new_event_loop()

    async def main() -> Any:
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "60", stdin=None, stdout=None, stderr=None)
        return transport

    transport = loop.run_until_complete(main())
    before = set(os.listdir("/proc/self/fd"))
    process = transport.get_extra_info("subprocess")
    loop.close()
    assert len(set(os.listdir("/proc/self/fd"))) < len(before)
    transport.close()
    assert process.wait() == -signal.SIGKILL
