"""Runs other libraries' own tests on asyncio's loop and on tepal's: `make ecosystem`.

    python tests/python/ecosystem/run.py --python PYTHON [LIBRARY ...]

Each library comes from its source package on PyPI, into an environment of its own beside PYTHON's
(kept under --place). What fails on tepal's loop and not on asyncio's is printed and fails the run.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import glob
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import tomllib
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


class Outcome(NamedTuple):
    """passed, skipped or failed, and what pytest tells of a failure."""

    state: str
    text: str = ""


class Absent(Exception):
    """Something that a suite needs cannot be had here."""


def call(words: list[str], limit: float, **keywords: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL, **keywords)


def prepare(name: str, suite: dict[str, Any], python: str, place: Path) -> tuple[str, Path]:
    """An environment with the library installed, and its unpacked source."""
    for command in suite.get("commands", []):
        if shutil.which(command) is None and not glob.glob(command):
            raise Absent(f"{command}, which the tests of {name} need")
    version = suite["version"]
    root = place / f"{name}-{version}"
    inside = root / "venv/bin/python"
    source = root / "source"
    if not (root / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        # The pip that made this environment serves all: one of its own takes longer than the rest.
        call([python, "-m", "venv", "--without-pip", str(root / "venv")], 120, check=True)
        pip = [python, "-m", "pip", f"--python={inside}", "--quiet", "--disable-pip-version-check"]
        download = [*pip, "download", "--no-deps", "--no-binary", name, "--dest", str(root)]
        done = call([*download, f"{name}=={version}"], 300)
        archives = list(root.glob("*.tar.gz"))
        if not archives:
            raise Absent(f"the source of {name} {version} ({done.stderr.strip().splitlines()[-1:]})")
        with tarfile.open(archives[0]) as archive:
            # Python 3.11 has filters from 3.11.4 on; the archive is the registry's.
            filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(root, **filtered)
        unpacked = next(path for path in root.iterdir() if path.is_dir() and path.name != "venv")
        unpacked.rename(source)
        needs = ["pytest", "pytest-timeout", *suite.get("needs", [])]
        done = call([*pip, "install", f"{name}=={version}", *needs], 600)
        if done.returncode:
            raise Absent(f"what the tests of {name} need ({done.stderr.strip().splitlines()[-1:]})")
        (root / "ready").touch()
    return str(inside), source


@functools.cache
def with_names() -> tuple[str, ...]:
    """What a command line begins with so that `localhost` has both its addresses, as suites expect
    it; nothing where it has them anyway, or where that cannot be arranged."""
    with contextlib.suppress(OSError):
        if len({it[0] for it in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}) == 2:
            return ()
    hosts = Path(tempfile.mkdtemp()) / "hosts"
    atexit.register(shutil.rmtree, hosts.parent)
    hosts.write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
    begin = ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        call([*begin, "true"], 20, check=True)
        return begin
    return ()


@contextlib.contextmanager
def serving(suite: dict[str, Any]) -> Iterator[None]:
    """While the server runs that a suite talks to, if it needs one."""
    if "server" not in suite:
        yield
        return
    words = shlex.split(suite["server"])
    if (HERE / words[0]).exists():
        words[0] = str(HERE / words[0])
    with tempfile.TemporaryDirectory() as directory:
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory)
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and server.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(words[-1]))):
                    break
                time.sleep(0.1)
            else:
                raise Absent(f"{words[0]}, which did not begin to serve")
            yield
        finally:
            server.terminate()
            server.wait()


def results(
    python: str, source: Path, suite: dict[str, Any], on_tepal: bool, limit: float, cache: Path, again: bool
) -> dict[str, Outcome]:
    """The outcome of each test, or again of those that failed before, by pytest's memory in `cache`."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        words = [*with_names(), python, *suite.get("python", []), "-m", "pytest", "-q", f"--junitxml={report}"]
        words += ["-o", f"cache_dir={cache}", "--timeout=60", *suite.get("arguments", [])]
        words += ["--last-failed", "--last-failed-no-failures=none"] if again else []
        words += [f"--deselect={it}" for it in suite.get("deselect", [])]
        environment = dict(os.environ)
        path = [str(HERE), *([str(HERE.parents[2] / "python")] if on_tepal else [])]
        environment.update(suite.get("environment", {}))
        environment["PYTHONPATH"] = os.pathsep.join(path)
        if on_tepal:
            words += ["-p", "on_tepal"]
        for plugin in suite.get("plugins", []):
            words += ["-p", plugin]
        done = call([*words, *suite["tests"]], limit, cwd=source, env=environment)
        if not report.exists():
            raise Absent("a report of pytest: " + (done.stdout + done.stderr)[-2000:])
        if on_tepal and not re.search(r"loops of tepal: [1-9]", done.stdout):
            raise SystemExit("the suite made no loop of tepal's: " + done.stdout[-2000:])
        found = {}
        for case in xml.parse(report).iter("testcase"):
            bad = case.find("failure") if case.find("failure") is not None else case.find("error")
            state = "passed" if case.find("skipped") is None else "skipped"
            found[f"{case.get('classname')}::{case.get('name')}"] = (
                Outcome(state) if bad is None else Outcome("failed", bad.text or bad.get("message") or "")
            )
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    suites = tomllib.loads((HERE / "suites.toml").read_text())
    parser.add_argument("libraries", nargs="*", help=f"all by default: {', '.join(suites)}")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--place", default=os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "ecosystem"))
    parser.add_argument("--limit", type=float, default=900, help="seconds for one suite on one loop")
    parser.add_argument("--lines", type=int, default=8, help="how many are shown of a failure")
    parser.add_argument("--quick", action="store_true", help="only the suites that have a quick part, and that of them")
    parser.add_argument("--brief", action="store_true", help="on asyncio's loop run only what failed on tepal's")
    options = parser.parse_args()
    if options.quick:
        suites = {name: {**suite, "tests": suite["quick"]} for name, suite in suites.items() if "quick" in suite}
    status = passed = failed = 0
    for name in options.libraries or suites:
        started = time.monotonic()
        try:
            python, source = prepare(name, suites[name], options.python, Path(options.place).resolve())
            with serving(suites[name]), tempfile.TemporaryDirectory() as cache:
                run = functools.partial(results, python, source, suites[name], limit=options.limit, cache=Path(cache))
                ours = run(on_tepal=True, again=False)
                stock = run(on_tepal=False, again=options.brief)
        except (Absent, subprocess.TimeoutExpired, subprocess.CalledProcessError) as why:
            print(f"{name}: absent: {why}")
            if os.environ.get("TEPAL_ABSENT_FILE"):
                with open(os.environ["TEPAL_ABSENT_FILE"], "a") as absent:
                    print(f"the tests of {name}: {str(why).splitlines()[0]}", file=absent)
            continue
        worse = sorted(
            test
            for test, outcome in ours.items()
            if outcome.state == "failed" and stock.get(test, Outcome("absent")).state != "failed"
        )
        count = lambda found, state: sum(it.state == state for it in found.values())  # noqa: E731
        print(
            f"{name} {suites[name]['version']}: asyncio {count(stock, 'passed')} passed, {count(stock, 'failed')} failed; "
            f"tepal {count(ours, 'passed')} passed, {count(ours, 'failed')} failed, {len(worse)} of them on tepal only "
            f"({time.monotonic() - started:.0f} s)"
        )
        for test in worse:
            print(f"  {test}")
            print(textwrap.indent("\n".join(ours[test].text.strip().splitlines()[-options.lines :]), "    "))
        passed += count(ours, "passed")
        failed += len(worse)
        status |= bool(worse)
    print(f"test result: {'FAILED' if status else 'ok'}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
