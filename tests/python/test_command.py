"""The command `tepal`, as an installation of the package has it."""

from __future__ import annotations

import importlib.metadata
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tepal

COMMAND = [sys.executable, "-m", "tepal._command"]


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, input=given)


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_the_script_of_an_installation_is_this_one() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    script = tomllib.loads(project.read_text())["project"]["scripts"]["tepal"]
    entry = importlib.metadata.EntryPoint("tepal", script, "console_scripts")
    assert entry.load().__module__ == "tepal._command"


def test_it_tells_its_version_and_mistakes() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tepal {tepal.__version__}\n", "")
    done = run("connect", "tcp:localhost:7", "tsl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'tls'?" in done.stderr


def test_a_failed_connect_has_the_status_of_its_phase() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        done = run("connect", f"tcp:127.0.0.1:{nobody.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (4, "")
    assert "Connection refused" in done.stderr


def test_it_listens_connects_and_ends_by_an_interrupt(tmp_path: Path) -> None:
    wire = f"unix:{tmp_path / 'echo'}"
    with started("listen", wire, "--echo") as server:
        assert server.stderr is not None
        assert "listening on" in server.stderr.readline()
        done = run("connect", wire, given="there and back\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "there and back\n", "")
        with started("connect", wire) as client:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write("here\n")
            client.stdin.flush()
            assert client.stdout.readline() == "here\n"
            client.send_signal(signal.SIGINT)
            assert client.wait(timeout=30) == -signal.SIGINT
        # It ends by itself when no connection is left.
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
