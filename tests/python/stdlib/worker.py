"""Runs some tests of one module of `test.test_asyncio`, each in a process of its own.

The module is imported once; each test runs in a fork of that, so that a crash, a hang or a leak
costs one test and a process costs milliseconds. One line of JSON per test goes to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import fnmatch
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import unittest
import warnings
from collections.abc import Iterator
from typing import Any

import loops

OUTPUT_SHOWN = 6000


def every_test(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from every_test(item)
        else:
            yield item


def outcome(test: unittest.TestCase, stand_in: loops.LoopClass) -> dict[str, Any]:
    """Runs one test, here."""
    from test import support

    support.verbose = 0
    stray: list[str] = []
    sys.unraisablehook = lambda hook: stray.append(
        f"unraisable: {hook.exc_value!r} in {hook.object!r} {hook.err_msg or ''}"
    )
    before = stand_in.made
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        unittest.TestSuite([test]).run(result)
    problems = [text for _, text in result.failures + result.errors]
    problems += [f"unexpected success: {it}" for it in result.unexpectedSuccesses]
    if stray:
        problems += stray
    if support.environment_altered:
        problems.append("the test left its environment altered (threads or children)")
    if problems:
        status = "failed"
    elif result.skipped:
        status = "skipped"
    elif not result.testsRun:
        status = "failed"
        problems = ["did not run"]
    else:
        status = "passed"
    detail = "\n".join(problems) or "; ".join(reason for _, reason in result.skipped)
    return {"status": status, "detail": detail, "used": stand_in.made > before}


def run_apart(test: unittest.TestCase, stand_in: loops.LoopClass, limit: float) -> dict[str, Any]:
    """Runs one test in a fork, for at most `limit` seconds."""
    started = time.monotonic()
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.setpgid(0, 0)
                os.close(reader)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                faulthandler.enable()
                faulthandler.dump_traceback_later(max(limit - 1, 0.5), exit=False)
                answer = json.dumps(outcome(test, stand_in)).encode()
                with os.fdopen(writer, "wb") as pipe:
                    pipe.write(answer)
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        answer, deadline = b"", started + limit
        while select.select([reader], [], [], max(deadline - time.monotonic(), 0))[0]:
            part = os.read(reader, 1 << 16)
            if not part:
                break
            answer += part
        else:
            answer = b""
        os.close(reader)
        late = time.monotonic() >= deadline
        if late:
            os.kill(child, signal.SIGKILL)
        # What the test left behind goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        text = output.read().decode(errors="replace")[-OUTPUT_SHOWN:]
    if answer:
        record = json.loads(answer)
        if record["status"] == "failed" and text.strip():
            record["detail"] += f"\n-- output --\n{text}"
    elif late:
        record = {"status": "late", "detail": f"no end within {limit:g} s\n{text}", "used": True}
    else:
        code = os.waitstatus_to_exitcode(status)
        record = {"status": "crashed", "detail": f"ended with {code}\n{text}", "used": True}
    record["seconds"] = round(time.monotonic() - started, 3)
    return record


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--shard", default="0/1", help="which of how many parts of the module")
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--match", action="append", default=[])
    parser.add_argument("--leave-out", action="append", default=[])
    options = parser.parse_args()
    part, parts = map(int, options.shard.split("/"))

    stand_in = loops.replace(loops.find(options.loop))
    name = options.module if "." in options.module else f"test.test_asyncio.{options.module}"
    try:
        module = importlib.import_module(name)
    except unittest.SkipTest as skip:
        print(json.dumps({"test": options.module, "status": "skipped", "detail": str(skip), "used": False}))
        return
    tests = list(every_test(unittest.defaultTestLoader.loadTestsFromModule(module)))
    for number, test in enumerate(tests):
        short = test.id().removeprefix("test.test_asyncio.")
        if number % parts != part:
            continue
        if options.match and not any(fnmatch.fnmatch(short, p) for p in options.match):
            continue
        if any(fnmatch.fnmatch(short, pattern) for pattern in options.leave_out):
            continue
        record = {"test": short, **run_apart(test, stand_in, options.limit)}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
