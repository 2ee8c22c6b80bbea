"""Types: the stub tells what the native module has, and a strictly typed program runs."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tepal
from tepal import _tepal

PROGRAM = Path(__file__).with_name("typed_program.py")
PACKAGE = Path(tepal.__file__).parent
SEEN_BY_USERS = [
    "StreamTransport", "Timer", "Watcher", "LayerBase", "LayerIO", "FromBelow", "ToAbove",
    "FromAbove", "ToBelow",
]  # fmt: skip


def stub_classes() -> dict[str, set[str]]:
    tree = ast.parse((PACKAGE / "_tepal.pyi").read_text())
    return {
        node.name: {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize("name", SEEN_BY_USERS)
def test_the_stub_has_what_the_native_class_adds_to_asyncios(name: str) -> None:
    import asyncio

    own = {each for each in vars(getattr(_tepal, name)) if not each.startswith("_")}
    inherited = set(dir(asyncio.Transport)) if name == "StreamTransport" else set()
    told = {each for each in stub_classes()[name] if not each.startswith("_")}
    assert told >= own - inherited
    assert told <= own, "the stub tells of what is not there"


@pytest.mark.parametrize("name", SEEN_BY_USERS)
def test_the_stub_says_what_help_says(name: str) -> None:
    tree = ast.parse((PACKAGE / "_tepal.pyi").read_text())
    (node,) = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name]
    native = getattr(_tepal, name)
    told = {node.name: ast.get_docstring(node)}
    said = {node.name: native.__doc__ and inspect.cleandoc(native.__doc__)}
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and ast.get_docstring(item):
            told[item.name] = ast.get_docstring(item)
            said[item.name] = inspect.getdoc(getattr(native, item.name))
    # Editors show the docstring of the class in Python for the two that have one.
    if name in ("StreamTransport", "LayerBase"):
        return
    assert told == said
    assert len(told) > 1


def test_every_public_name_has_a_docstring_or_is_a_type_or_a_constant() -> None:
    for name in tepal.__all__:
        thing = getattr(tepal, name)
        if callable(thing) and hasattr(thing, "__module__") and name != "How":
            assert thing.__doc__, name


def test_a_strictly_typed_program_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(PROGRAM)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'HELLO'\n", "")


def test_a_strictly_typed_program_has_no_errors() -> None:
    if importlib.util.find_spec("mypy") is None:
        absent = os.environ.get("TEPAL_ABSENT_FILE")
        if absent:
            with open(absent, "a") as file:
                file.write("mypy, so the types of a strict program were not checked\n")
        pytest.skip("mypy is not installed here")
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent",
            "--cache-dir", os.devnull, str(PROGRAM),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(PACKAGE.parent)},
        timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
