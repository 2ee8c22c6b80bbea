"""The rules of the house that no other tool checks. Run by `make lint`.

Broken rules are printed and fail the run; long files are only listed, for people to judge.

* One name for one thing: the words of docs/design/glossary.md, no public type defined twice.
* `unsafe` only where it may be (and in integration tests), each with the invariant it rests on; elsewhere it is forbidden.
* No path of the machine where something was written.
* Each line of docs/design/requirements.md is shown by tests that exist.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

UNSAFE_CRATES = {"tepal-base", "tepal-driver", "tepal-python"}
LONG, TOO_LONG = 400, 600
# A note may stand above the statement that holds the block, with attributes between them.
SAFETY_REACH = 8

PUBLIC = re.compile(
    r"^\s*pub (?:const |async |unsafe |extern \"C\" )*"
    r"(?P<kind>struct|enum|union|trait|type|fn|mod|static)\s+(?P<name>[A-Za-z_]\w*)"
)
UNSAFE = re.compile(r"\bunsafe\s*(?:\{|impl\b|extern\b)")
MACHINE_PATH = re.compile(r"(?<![\w.$}*/-])/(?:root|home|Users|work)/[\w.]")


def words(name: str) -> list[str]:
    """The words of a Rust name, in lower case: `TimerHandle` and `timer_handle` give the same."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def read_glossary(text: str) -> tuple[dict[str, str], set[str], set[str]]:
    """Banned words with what to say instead, names exempt from that, names that may be defined twice.

    They are the sections "Words", "Names kept from asyncio" and "Names that crates share".
    """
    banned: dict[str, str] = {}
    exempt: set[str] = set()
    shared: set[str] = set()
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        elif section == "Words" and line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == 3 and cells[0] != "word" and not set(cells[0]) <= {"-"}:
                for other in cells[2].split(","):
                    if other.strip():
                        banned[other.strip().lower()] = cells[0]
        elif line.startswith("- "):
            names = re.findall(r"`(\w+)`", line)
            if section == "Names kept from asyncio":
                exempt.update(names)
            elif section == "Names that crates share":
                shared.update(names)
    return banned, exempt, shared


def without_tests(text: str) -> str:
    """The text up to its unit tests, which by our order come last in a file."""
    return re.split(r"^#\[cfg\(.*\btest\b.*\)\]\s*\nmod ", text, maxsplit=1, flags=re.M)[0]


def check_names(
    files: dict[str, str], banned: dict[str, str], exempt: set[str], shared: set[str]
) -> list[str]:
    """Banned words in public names, and types that two crates offer.

    A crate offers the types that its lib.rs names; `pub` in a private module is its own matter.
    """
    problems = []
    homes: dict[str, str] = {}
    roots = {path.split("/")[1]: text for path, text in files.items() if path.endswith("src/lib.rs")}
    for path, text in sorted(files.items()):
        for number, line in enumerate(without_tests(text).splitlines(), 1):
            found = PUBLIC.match(line)
            if not found or found["name"] in exempt:
                continue
            name, crate = found["name"], path.split("/")[1]
            is_type = found["kind"] in {"struct", "enum", "union", "trait", "type"}
            if is_type and not re.search(rf"\b{name}\b", roots.get(crate, "")):
                continue
            for word in words(name):
                if word in banned:
                    problems.append(f"{path}:{number}: `{name}` says {word}; our word is {banned[word]}")
            if is_type and found["kind"] != "type" and name not in shared:
                if homes.setdefault(name, crate) != crate:
                    problems.append(f"{path}:{number}: `{name}` is also a type of {homes[name]}")
    return problems


def check_unsafe(files: dict[str, str]) -> list[str]:
    """Unsafe code outside its crates, or without its note, or not forbidden where it has no place."""
    problems = []
    for path, text in sorted(files.items()):
        parts = path.split("/")
        # An integration test is a crate of its own: it may count allocations or raise signals.
        is_test = parts[0] == "crates" and parts[2] == "tests"
        allowed = is_test or (parts[0] == "crates" and parts[1] in UNSAFE_CRATES)
        root = parts[-2:] in (["src", "lib.rs"], ["src", "main.rs"])
        if root and not allowed and "#![forbid(unsafe_code)]" not in text:
            problems.append(f"{path}: lacks #![forbid(unsafe_code)]")
        lines = text.splitlines()
        for at, line in enumerate(lines):
            code = line.split("//")[0]
            if not UNSAFE.search(code):
                continue
            above = "\n".join(lines[max(0, at - SAFETY_REACH) : at + 1])
            if not allowed:
                problems.append(f"{path}:{at + 1}: unsafe has no place in this crate")
            elif "SAFETY:" not in above and "# Safety" not in above:
                problems.append(f"{path}:{at + 1}: unsafe without a SAFETY note")
    return problems


def check_paths(files: dict[str, str], root: str) -> list[str]:
    """Paths that exist only where the file was written."""
    problems = []
    for path, text in sorted(files.items()):
        for number, line in enumerate(text.splitlines(), 1):
            found = MACHINE_PATH.search(line)
            if found or (len(root) > 5 and root in line):
                problems.append(f"{path}:{number}: a path of some machine: {line.strip()[:80]}")
    return problems


REQUIREMENT = re.compile(r"^\| S(\d+) \| ")
TEST = re.compile(r"`([\w-]+)/([\w/]+)::(\w+)`")
REQUIREMENTS = 80


def check_requirements(page: str, files: dict[str, str]) -> list[str]:
    """Lines that are missing or shown by nothing, and tests that are named and do not exist."""
    problems = []
    where = "docs/design/requirements.md"
    found: list[int] = []
    for number, line in enumerate(page.splitlines(), 1):
        row = REQUIREMENT.match(line)
        tests = TEST.findall(line)
        if row:
            found.append(int(row[1]))
            if not tests and "open: " not in line and "measured: " not in line:
                problems.append(f"{where}:{number}: S{row[1]} is shown by nothing")
        for home, file, name in tests:
            path = {
                "python": f"tests/python/{file}.py",
                "scripts": f"scripts/{file}.py",
            }.get(home, f"crates/{home}/tests/{file}.rs")
            if not re.search(rf"\b(?:fn|def) {name}\b", files.get(path, "")):
                problems.append(f"{where}:{number}: {path} has no {name}")
    if found != list(range(1, REQUIREMENTS + 1)):
        problems.append(f"{where}: the lines are not S1 to S{REQUIREMENTS}, in order")
    return problems


def long_files(files: dict[str, str]) -> list[str]:
    """Sources past the length that stays readable, the longest first."""
    lengths = sorted(((text.count("\n"), path) for path, text in files.items()), reverse=True)
    return [
        f"{path}: {length} lines" + (" (split it by noun)" if length > TOO_LONG else "")
        for length, path in lengths
        if length > LONG
    ]


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    # Untracked files count too: they are about to be committed.
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout.split("\0")
    texts: dict[str, str] = {}
    for name in filter(None, listed):
        try:
            texts[name] = (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    rust = {p: t for p, t in texts.items() if p.endswith(".rs")}
    sources = {p: t for p, t in rust.items() if p.startswith("crates/") and "/src/" in p}
    # This file and its test spell out what they look for.
    plain = {p: t for p, t in texts.items() if not p.startswith("scripts/") or "house_rules" not in p}

    banned, exempt, shared = read_glossary(texts["docs/design/glossary.md"])
    problems = check_names(sources, banned, exempt, shared)
    problems += check_unsafe(rust)
    problems += check_paths(plain, str(root))
    problems += check_requirements(texts["docs/design/requirements.md"], texts)
    listed_long = long_files({p: t for p, t in texts.items() if p.endswith((".rs", ".py", ".pyi"))})
    if listed_long:
        print(f"longer than {LONG} lines (no error):")
        print("\n".join(f"  {line}" for line in listed_long))
    for problem in problems:
        print(problem)
    print(f"house rules: {len(texts)} files, {len(banned)} banned words, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
