"""Each rule sees what it is for, and lets pass what is right."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import house_rules

GLOSSARY = """
## Words
| word | meaning | never called |
|---|---|---|
| watcher | interest in a descriptor | handler, poller |
| turn | one pass | |
## Names kept from asyncio
- `add_signal_handler`
## Names that crates share
- `Error`, each crate's own
"""


class Rules(unittest.TestCase):
    def names(self, **files: str) -> list[str]:
        paths = {f"crates/{crate}/src/lib.rs": text for crate, text in files.items()}
        return house_rules.check_names(paths, *house_rules.read_glossary(GLOSSARY))

    def test_a_banned_word_in_a_public_name_is_found(self) -> None:
        self.assertEqual(len(self.names(a="pub struct ReadHandler;")), 1)
        self.assertEqual(len(self.names(a="    pub const fn io_poller() {}")), 1)

    def test_private_names_tests_and_asyncio_names_pass(self) -> None:
        self.assertEqual(self.names(a="struct ReadHandler;\npub(crate) fn handler() {}"), [])
        self.assertEqual(self.names(a="pub fn add_signal_handler() {}"), [])
        self.assertEqual(self.names(a="#[cfg(test)]\nmod tests {\n pub struct Handler;\n}"), [])
        self.assertEqual(self.names(a="pub fn handles() {}"), [])

    def test_a_type_of_two_crates_is_found_unless_shared(self) -> None:
        self.assertEqual(len(self.names(a="pub struct Plan;", b="pub enum Plan {}")), 1)
        self.assertEqual(self.names(a="pub struct Error;", b="pub enum Error {}"), [])

    def test_a_type_that_a_crate_keeps_to_itself_passes(self) -> None:
        files = {
            "crates/a/src/lib.rs": "mod inner;",
            "crates/a/src/inner.rs": "pub struct Plan;",
            "crates/b/src/lib.rs": "pub struct Plan;",
        }
        read = house_rules.read_glossary(GLOSSARY)
        self.assertEqual(house_rules.check_names(files, *read), [])
        files["crates/a/src/lib.rs"] = "mod inner;\npub use inner::Plan;"
        self.assertEqual(len(house_rules.check_names(files, *read)), 1)

    def test_unsafe_needs_its_crate_and_its_note(self) -> None:
        note = "// SAFETY: held by the caller.\nunsafe { f() }\n"
        bare = "unsafe { f() }\n"
        self.assertEqual(house_rules.check_unsafe({"crates/tepal-driver/src/a.rs": note}), [])
        self.assertEqual(len(house_rules.check_unsafe({"crates/tepal-driver/src/a.rs": bare})), 1)
        self.assertEqual(len(house_rules.check_unsafe({"crates/tepal-layers/src/a.rs": note})), 1)
        self.assertEqual(house_rules.check_unsafe({"crates/tepal-layers/tests/a.rs": note}), [])
        self.assertEqual(len(house_rules.check_unsafe({"crates/tepal-layers/tests/a.rs": bare})), 1)

    def test_a_crate_without_unsafe_forbids_it(self) -> None:
        root = "crates/tepal-layers/src/lib.rs"
        self.assertEqual(len(house_rules.check_unsafe({root: "//! Layers.\n"})), 1)
        self.assertEqual(house_rules.check_unsafe({root: "#![forbid(unsafe_code)]\n"}), [])

    def test_a_path_of_a_machine_is_found(self) -> None:
        for line in ("see /home/ann/x", '"/root/.cargo"', "in /build/here/a"):
            self.assertEqual(len(house_rules.check_paths({"a.md": line}, "/build/here")), 1, line)
        for line in ("/etc/hosts", "https://example.net/home/x", "$HOME/work/x", "/workspace"):
            self.assertEqual(house_rules.check_paths({"a.md": line}, "/build/here"), [], line)

    def test_each_requirement_names_tests_that_exist(self) -> None:
        files = {"crates/a/tests/b/c.rs": "fn holds() {}", "tests/python/d.py": "def test_e"}
        rows = ["| S1 | x | `a/b/c::holds` (sim) |", "| S2 | y | `python/d::test_e` |"]
        rows += [f"| S{line} | z | open: not yet |" for line in range(3, 81)]
        check = house_rules.check_requirements
        self.assertEqual(check("\n".join(rows), files), [])
        self.assertEqual(len(check("\n".join(rows[1:]), files)), 1)
        self.assertEqual(len(check("\n".join(rows).replace("holds", "hold"), files)), 1)
        self.assertEqual(len(check("\n".join(rows).replace("open: not yet", ""), files)), 78)

    def test_long_files_are_listed_longest_first(self) -> None:
        files = {"a.rs": "\n" * 401, "b.rs": "\n" * 601, "c.rs": "\n" * 400}
        self.assertEqual([line.split(":")[0] for line in house_rules.long_files(files)], ["b.rs", "a.rs"])


if __name__ == "__main__":
    unittest.main()
