"""`python -m tepal`: existing programs run unchanged, and mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tepal", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=cwd, stdin=subprocess.DEVNULL)


def test_a_program_that_calls_asyncio_run_gets_this_loop_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("NAME = 'beside the program'\n")
    program = tmp_path / "app.py"
    program.write_text(
        "import asyncio, sys, helper\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(type(loop).__module__, __name__, helper.NAME, sys.argv[1:])\n"
        "asyncio.run(main())\n"
    )
    done = run(str(program), "--driver", "x")
    assert done.stdout == "tepal._loop __main__ beside the program ['--driver', 'x']\n", done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_every_name_by_which_asyncio_makes_loops_makes_ours(tmp_path: Path) -> None:
    code = (
        "import asyncio, selectors, tepal, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "makers = [asyncio.new_event_loop, asyncio.SelectorEventLoop,\n"
        "          lambda: asyncio.SelectorEventLoop(selectors.DefaultSelector()),\n"
        "          asyncio.Runner().get_loop]\n"
        "for make in makers:\n"
        "    loop = make(); assert isinstance(loop, tepal.Loop), loop; loop.close()\n"
        "print('all ours')\n"
    )
    done = run("-c", code)
    assert done.stdout == "all ours\n", done.stderr


def test_a_module_is_run_with_its_name_and_status(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("import sys\nprint(__name__, sys.argv[1:])\nsys.exit(7)\n")
    done = run("--driver=poll", "-m", "tool", "-v", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("__main__ ['-v']\n", 7), done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_that_multiprocessing_starts_get_this_loop_and_the_driver(tmp_path: Path, method: str) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "import asyncio, multiprocessing, sys\n"
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(type(loop).__module__, loop.driver, __name__, sys.argv[1:], flush=True)\n"
        "def work():\n"
        "    asyncio.run(main())\n"
        "if __name__ == '__main__':\n"
        f"    child = multiprocessing.get_context({method!r}).Process(target=work)\n"
        "    child.start(); child.join(); sys.exit(child.exitcode)\n"
    )
    done = run("--driver=poll", str(program), "x", cwd=tmp_path)
    name = "__main__" if method == "fork" else "__mp_main__"
    assert done.stdout == f"tepal._loop poll {name} ['x']\n", done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_bytes_on_the_command_line_of_a_spawned_process_are_not_compared(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "import multiprocessing, sys\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=print, args=('came',))\n"
        "    child.start(); child.join(); sys.exit(child.exitcode)\n"
    )
    words = [sys.executable, "-bb", "-m", "tepal", str(program)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert (done.stdout, done.returncode) == ("came\n", 0), done.stderr


@pytest.mark.parametrize("flags", [[], ["-P"], ["-I"]])
@pytest.mark.parametrize("kind", ["file", "module", "code"])
def test_the_path_of_a_program_is_what_python_itself_makes_of_it(tmp_path: Path, flags: list[str], kind: str) -> None:
    program = tmp_path / "tool.py"
    program.write_text("import sys\nprint(sys.path)\n")
    rest = {"file": [str(program)], "module": ["-m", "tool"], "code": ["-c", "import sys; print(sys.path)"]}[kind]
    # Such a module is found by neither with -P: that is told.
    seen = [
        subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        for words in ([*flags, *rest], [*flags, "-m", "tepal", *rest])
    ]
    assert seen[0].stdout == seen[1].stdout, seen
    assert bool(seen[1].stdout) == (kind != "module" or not flags), seen


def test_a_program_that_picks_another_loop_is_told_so_and_runs(tmp_path: Path) -> None:
    code = (
        "import asyncio.base_events, selectors\n"
        "from asyncio import selector_events\n"
        "class Other(selector_events.BaseSelectorEventLoop): pass\n"
        "loop = Other(selectors.DefaultSelector())\n"
        "loop.run_until_complete(asyncio.sleep(0))\n"
        "loop.close(); print('ran')\n"
    )
    done = run("-c", code)
    assert done.stdout == "ran\n", done.stderr
    assert "picked a loop of its own, __main__.Other" in done.stderr


def test_mistakes_on_the_command_line_are_told_with_status_two(tmp_path: Path) -> None:
    for arguments, message in [
        ([], "nothing to run"),
        (["nowhere.py"], "there is no file 'nowhere.py'"),
        (["-m"], "-m needs a module"),
        (["-m", "no_such_module"], "No module named no_such_module"),
        (["--driver", "steam", "x.py"], 'unknown driver "steam"'),
        (["--fast"], "unknown option '--fast'"),
    ]:
        done = run(*arguments)
        assert done.returncode == 2 and message in done.stderr, (arguments, done)
        assert "Traceback" not in done.stderr
    assert run("--version").stdout.startswith("tepal ")
    assert run("--help").stdout.startswith("usage: python -m tepal")


def test_an_import_error_inside_the_program_is_the_programs_own(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("import no_such_thing\n")
    done = run("-m", "tool", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "no_such_thing" in done.stderr
