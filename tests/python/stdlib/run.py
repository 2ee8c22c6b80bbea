"""Runs CPython's own tests of asyncio, and of what else needs a loop, on a loop that is given from outside.

    python tests/python/stdlib/run.py --python PYTHON --loop tepal:new_event_loop [MODULE ...]

Every test is a process of its own with a time limit, two at a time. A test counts as passed only if
it made a loop of the given factory; one that passes without is told apart ("elsewhere"). What is
left out stands in exclusions.txt, each line with its reason. The end is one line in cargo's format.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Modules that take long are cut up, so that two workers end at about the same time.
PARTS = {
    "test_events": 4, "test_tasks": 3, "test_ssl": 4, "test_subprocess": 4,
    "test_sslproto": 2, "test_futures": 2, "test_locks": 2, "test_streams": 2, "test_taskgroups": 2,
    "test_sendfile": 3, "test_sock_lowlevel": 2, "test_unix_events": 2, "test_base_events": 2,
}
# Tests of what runs on a loop, outside of test_asyncio; the last is where Python 3.11 has it.
OTHERS = (
    "test.test_asyncgen",
    "test.test_contextlib_async",
    "test.test_coroutines",
    "test.test_unittest.test_async_case",
    "unittest.test.test_async_case",
)


def exclusions(version: str) -> list[tuple[str, str]]:
    """Patterns of tests that are left out on a version such as "3.11", with their reasons."""
    found = []
    for line in (HERE / "exclusions.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        where, _, reason = line.partition("  ")
        pattern, _, versions = where.partition("@")
        if not reason.strip():
            raise SystemExit(f"exclusions.txt: no reason for {where!r}")
        if not versions or version in versions.split(","):
            found.append((pattern, reason.strip()))
    return found


def modules_of(python: str) -> tuple[str, list[str]]:
    """The version of an interpreter, and the modules of its test_asyncio, by their short names, and
    OTHERS; none if it has no tests."""
    code = (
        "import sys; print('%d.%d' % sys.version_info[:2])\n"
        "try: import test.test_asyncio as t\n"
        "except ImportError: sys.exit()\n"
        "import importlib.util, pathlib\n"
        "for p in sorted(pathlib.Path(t.__file__).parent.glob('test_*.py')): print(p.stem)\n"
        f"for name in {OTHERS}:\n"
        "    try: found = importlib.util.find_spec(name)\n"
        "    except ImportError: continue\n"
        "    if found: print(name)"
    )
    lines = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    return lines[0], lines[1:]


def run_part(python: str, module: str, shard: str, options: argparse.Namespace, out: list[str]) -> list[dict[str, Any]]:
    words = [python, *(["-X", "dev"] if options.dev else []), str(HERE / "worker.py"), "--loop", options.loop]
    words += ["--module", module, "--shard", shard, f"--limit={options.limit}"]
    words += [f"--match={pattern}" for pattern in options.match]
    words += [f"--leave-out={pattern}" for pattern in out]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    records = [{"module": module, **json.loads(line)} for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        records.append({"module": module, "test": module, "status": "crashed", "detail": done.stderr, "used": True, "seconds": 0})
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="such as test_events; all by default")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--loop", default="tepal:new_event_loop", help="MODULE:FACTORY")
    parser.add_argument("--match", action="append", default=[], help="a pattern of test ids")
    parser.add_argument("--limit", type=float, default=60, help="seconds for one test")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dev", action="store_true", help="under -X dev")
    parser.add_argument("--all", action="store_true", help="also what exclusions.txt leaves out")
    parser.add_argument("--quiet", action="store_true", help="only the names of what failed")
    parser.add_argument("--json", help="write every record to this file")
    options = parser.parse_args()

    started = time.monotonic()
    version, modules = modules_of(options.python)
    if not modules:
        text = f"the tests of Python {version} ({options.python}): it was installed without them"
        if os.environ.get("TEPAL_ABSENT_FILE"):
            with open(os.environ["TEPAL_ABSENT_FILE"], "a") as absent:
                print(text, file=absent)
        print("absent:", text)
        return 0
    left_out = [] if options.all else exclusions(version)
    patterns = [pattern for pattern, _ in left_out]
    work = []
    for module in options.modules or modules:
        if f"{module}.*" in patterns:
            continue
        parts = PARTS.get(module, 1)
        work += [(parts, module, f"{part}/{parts}") for part in range(parts)]
    work.sort(key=lambda item: (-item[0], item[1]))

    records: list[dict[str, Any]] = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run_part, options.python, m, s, options, patterns) for _, m, s in work]
        for done in concurrent.futures.as_completed(waiting):
            records += done.result()

    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for record in records:
        if record["status"] == "passed" and not record["used"]:
            record["status"] = "elsewhere"
        counts[record["module"]][record["status"]] += 1
    if options.json:
        Path(options.json).write_text(json.dumps(records, indent=0))
    bad = [r for r in records if r["status"] in ("failed", "late", "crashed")]
    for record in sorted(bad, key=lambda r: r["test"]):
        print(f"{record['status'].upper()}: {record['test']}")
        if not options.quiet:
            print("    " + record["detail"].strip().replace("\n", "\n    "))
    columns = ["passed", "failed", "late", "crashed", "skipped", "elsewhere"]
    print(f"{options.loop} on Python {version}".ljust(40), *(name.rjust(9) for name in columns))
    total: collections.Counter[str] = collections.Counter()
    for module in sorted(counts):
        total.update(counts[module])
        print(f"  {module}".ljust(40), *(str(counts[module][name] or "").rjust(9) for name in columns))
    print("  all".ljust(40), *(str(total[name]).rjust(9) for name in columns))
    word = "FAILED" if bad else "ok"
    seconds = round(time.monotonic() - started)
    print(
        f"test result: {word}. {total['passed']} passed; {len(bad)} failed; {total['skipped']} ignored; "
        f"0 measured; {total['elsewhere']} filtered out; finished in {seconds}s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
