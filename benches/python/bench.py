"""Compares event loops of Python side by side in one run: `make bench-python`.

A server is a process of its own, pinned to one core, the native load (`tepal-bench load`) to
another; what counts is the CPU time of the server process per request. Samples are interleaved, each
round in another order; ratios are taken within a round, and their median is shown. See
docs/design/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import loops

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the table: what is measured, and for which loops it exists."""

    name: str
    title: str
    unit: str  # us, ns, KiB or ms
    kind: str
    connections: int = 64
    size: int = 1024
    only: tuple[str, ...] = ()  # The loops that it is measured on; all if none is named.


ROWS = [
    Row("echo", "TCP echo, Protocol, 64 x 1 KiB", "us", "protocol"),
    Row("echo-1024", "TCP echo, Protocol, 1024 x 1 KiB", "us", "protocol", 1024),
    Row("streams", "streams, 64 x 1 KiB", "us", "streams"),
    Row("tls", "TLS echo (SSLContext), 64 x 1 KiB", "us", "tls"),
    Row("tls-64k", "TLS echo (SSLContext), 16 x 64 KiB", "us", "tls", 16, 65536),
    Row("tls-native", "TLS echo (tepal.TLS; uvloop: SSLContext), 64 x 1 KiB", "us", "tls-native", only=("uvloop", "tepal")),
    Row("udp", "UDP echo, 64 x 512 B", "us", "udp", 64, 512),
    Row("aiohttp", "aiohttp, hello, 32 connections", "us", "http", 32),
    Row("uvicorn-h11", "uvicorn with h11, hello, 32 connections", "us", "http", 32),
    Row("uvicorn-httptools", "uvicorn with httptools, hello, 32 connections", "us", "http", 32),
    Row("websockets", "websockets, echo, 32 x 1 KiB", "us", "websockets", 32),
    Row("redis", "redis-py, pipeline, one command", "us", "redis"),
    Row("proxy", "relay of asyncio protocols, 64 x 1 KiB", "us", "proxy"),
    Row("join", "the same, by `transport.join` on tepal", "us", "proxy"),
    Row("call_soon", "call_soon, chained", "ns", "micro"),
    Row("call_later", "call_later and cancel", "ns", "micro"),
    Row("call_later_at_once", "call_later and cancel, in one callback", "ns", "micro"),
    Row("wait_for", "wait_for", "us", "micro"),
    Row("call_soon_threadsafe", "call_soon_threadsafe", "ns", "micro"),
    Row("getaddrinfo", 'getaddrinfo("localhost")', "us", "micro"),
    Row("subprocess", "subprocess `true`", "us", "micro"),
    Row("subprocess_parent", "subprocess `true`, without the child", "us", "micro"),
    Row("pipe", "a pipe, from transport to transport, 1 KiB", "us", "micro"),
    Row("pipe_streams_parent", "streams to `cat` and back, 1 KiB, without the child", "us", "micro"),
    Row("communicate_parent", "communicate with `cat`, without the child", "us", "micro"),
    Row("sleep_zero", "sleep(0)", "ns", "micro"),
    Row("create_task", "create_task and await", "ns", "micro"),
    Row("gather", "gather of 1000, for each", "ns", "micro"),
    Row("future", "set_result to its waiter", "ns", "micro"),
    Row("queue", "Queue, there and back", "us", "micro"),
    Row("event", "Event, set and wait", "ns", "micro"),
    Row("executor", "run_in_executor", "us", "micro"),
    Row("sock", "sock_sendall and sock_recv, there and back", "us", "micro"),
    Row("unix", "Unix streams, there and back", "us", "micro"),
    Row("churn", "streams, connect and close", "us", "micro"),
    Row("idle", "a second of sleep", "us", "micro"),
    Row("import", "import, beyond asyncio's", "ms", "micro"),
    Row("memory", "memory of an idle connection", "KiB", "protocol", 2000),
    Row("memory-tls", "memory of an idle TLS connection", "KiB", "tls", 500),
]
SCALE = {"ns": 1.0, "us": 1e3, "ms": 1e6, "KiB": 1024.0}


class Absent(Exception):
    """This loop cannot do this row."""


def pinned(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


class Bench:
    def __init__(self, python: str, program: str, directory: str, seconds: float) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.python, self.program, self.directory, self.seconds = python, program, directory, seconds
        self.server_core, self.load_core = cores[0], cores[min(1, len(cores) - 1)]
        self.beside: dict[str, subprocess.Popen[str]] = {}
        self.echo_address = ""
        # Modules are compiled once, as where they were installed, however this program was started.
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{directory}/compiled"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def close(self) -> None:
        """Ends what samples have started beside themselves."""
        for process in self.beside.values():
            process.kill()
            process.wait()

    def start(self, name: str, words: list[str]) -> subprocess.Popen[str]:
        """A program on the load's core, once for all samples."""
        if name not in self.beside:
            try:
                self.beside[name] = subprocess.Popen(
                    words, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(self.load_core)
                )
            except FileNotFoundError:
                raise Absent(f"{words[0]} is not installed") from None
        return self.beside[name]

    def echo(self) -> str:
        """The address of a server that relays lead to."""
        if not self.echo_address:
            process = self.start("echo", [self.program, "serve", "bare-epoll"])
            assert process.stdout is not None
            self.echo_address = process.stdout.readline().split()[1]
        return self.echo_address

    def redis(self) -> str:
        """The path where a Redis server listens."""
        path = f"{self.directory}/redis"
        words = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", self.directory]
        process = self.start("redis", words)
        assert process.stdout is not None
        while not os.path.exists(path):
            if not process.stdout.readline():
                raise Absent("redis-server has ended")
        return path

    def alone(self, words: list[str]) -> float:
        """What a program of this directory prints that needs no load."""
        done = subprocess.run(
            [self.python, str(HERE / words[0]), *words[1:]], capture_output=True, text=True, env=self.environment,
            preexec_fn=pinned(self.server_core), timeout=120,
        )
        if done.returncode:
            raise Absent(done.stderr.strip().splitlines()[-1:])
        return float(done.stdout)

    def sample(self, row: Row, loop: str) -> float:
        """Nanoseconds of CPU for one operation, or bytes."""
        if row.only and loop not in row.only:
            raise Absent
        if row.kind == "micro":
            return self.alone(["micro.py", loop, row.name])
        if row.kind == "redis":
            return self.alone(["applications.py", loop, row.name, self.redis()])
        if row.kind in ("http", "websockets", "proxy"):
            words = [self.python, str(HERE / "applications.py"), loop, row.name]
            if row.kind == "proxy":
                words += self.echo().rsplit(":", 1)
        else:
            kind = "tls" if row.kind == "tls-native" and loop != "tepal" else row.kind
            words = [self.python, str(HERE / "serve.py"), loop, kind, self.directory]
        server = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
            preexec_fn=pinned(self.server_core),
        )
        try:
            assert server.stdout is not None and server.stderr is not None
            line = server.stdout.readline().split()
            if line[:1] != ["listening"]:
                raise Absent(server.stderr.read().strip().splitlines()[-1:])
            protocol = {"tls": "tls", "tls-native": "tls", "udp": "udp"}.get(row.kind, "tcp")
            command = [self.program, "load", line[1], line[2], "--protocol", protocol]
            command += ["--connections", str(row.connections), "--size", str(row.size)]
            if row.name.startswith("memory"):
                command += ["--memory"]
            command += ["--seconds", str(self.seconds), "--warmup", str(self.seconds / 3)]
            if row.kind in ("http", "websockets"):
                command = [self.python, str(HERE / "exchange.py"), line[1], line[2], row.kind]
                command += [str(row.connections), str(self.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, preexec_fn=pinned(self.load_core), timeout=60)
            if done.returncode:
                raise Absent(done.stderr.strip())
            words = done.stdout.split()
            values = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            if row.name.startswith("memory"):
                return values["memory"] / row.connections
            return values["cpu_ns"] / values["requests"]
        finally:
            server.kill()
            server.wait()
            for pipe in (server.stdout, server.stderr):
                if pipe is not None:
                    pipe.close()


def certificate(directory: str) -> None:
    """A key and a certificate for this run only."""
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost "
        "-keyout key.pem -out cert.pem",
        shell=True, check=True, cwd=directory, capture_output=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--loops", default=",".join(loops.NAMES))
    parser.add_argument("--rows", default="", help="all by default: " + ", ".join(row.name for row in ROWS))
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.25)
    parser.add_argument("--program", default="", help="tepal-bench, where it is built already")
    parser.add_argument("--write", help="put the table between its markers in this file")
    options = parser.parse_args()
    names = options.loops.split(",")
    found = f"import loops; print(*[n for n in {names!r} if n == 'asyncio' or loops.is_installed(n)])"
    installed = subprocess.run([options.python, "-c", found], check=True, capture_output=True, text=True, cwd=HERE)
    absent, names = [n for n in names if n not in installed.stdout.split()], installed.stdout.split()
    if absent:
        print(f"not installed for {options.python}: {', '.join(absent)}", file=sys.stderr)
    wanted = options.rows.split(",") if options.rows else [row.name for row in ROWS]
    rows = [row for row in ROWS if row.name in wanted]
    program = options.program
    if not program:
        subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "-p", "tepal-bench"], check=True, cwd=ROOT)
        program = str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "release", "tepal-bench"))

    base = "uvloop" if "uvloop" in names else names[0]
    head = ["workload", *names, *(f"{n} / {base}" for n in names if n != base)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        certificate(directory)
        bench = Bench(options.python, program, directory, options.seconds)
        stack.callback(bench.close)
        for row in rows:
            samples: dict[str, list[float]] = {name: [] for name in names}
            gone: dict[str, str] = {}
            if row.name == "import":
                # What it has to compile is compiled by a first one, which does not count.
                for name in names:
                    with contextlib.suppress(Absent):
                        bench.sample(row, name)
            for turn in range(options.pairs):
                for place in range(len(names)):
                    name = names[(place + turn) % len(names)]
                    if name in gone:
                        continue
                    try:
                        samples[name].append(bench.sample(row, name))
                    except Absent as why:
                        gone[name] = str(why)
            cells = [row.title]
            for name in names:
                value = f"{statistics.median(samples[name]) / SCALE[row.unit]:.2f} {row.unit}" if name not in gone else "-"
                cells.append(value)
            for name in names:
                if name == base:
                    continue
                if name in gone or base in gone:
                    cells.append("-")
                    continue
                ratios = sorted(a / b for a, b in zip(samples[name], samples[base], strict=True))
                quarter = len(ratios) // 4
                cells.append(f"{statistics.median(ratios):.3f} ({ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})")
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True, file=sys.stderr)
            for name, why in gone.items():
                if why:
                    print(f"  {name}: {why}", file=sys.stderr)
    version = subprocess.run([options.python, "-V"], capture_output=True, text=True).stdout.strip()
    note = f"{version}, {platform.system()} {platform.release()}, {options.pairs} interleaved rounds; `make bench-python`"
    text = "\n".join(lines) + f"\n\n{note}\n"
    print(text)
    if options.write:
        path = Path(options.write)
        before, rest = path.read_text().split("<!-- python -->\n", 1)
        _, after = rest.split("<!-- end python -->", 1)
        path.write_text(f"{before}<!-- python -->\n{text}<!-- end python -->{after}")


if __name__ == "__main__":
    main()
