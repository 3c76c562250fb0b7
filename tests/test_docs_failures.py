"""docs/failures.md names tests that are there, for every failure and every mistake."""

import ast
from pathlib import Path

from tests.crash.sabotage import SABOTAGES
from tests.documents import DOCS, Document, code

TESTS = Path(__file__).parent
FAILURES = Document(DOCS / "failures.md")


def functions_in(path: Path) -> set[str]:
    """Return the names of a file's functions."""
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if hasattr(node, "name")}


def test_each_failure_names_its_tests() -> None:
    """Each row ends with tests, and each of them exists."""
    rows = FAILURES.table("## What is reported of others")
    assert len(rows) >= 31
    for reported, *_, shown in rows:
        named = code(shown)
        assert named, f"{reported}: no test"
        for test in named:
            path, _, function = test.partition("::")
            assert (TESTS / path).is_file(), test
            assert not function or function in functions_in(TESTS / path), test


def test_each_mistake_is_listed() -> None:
    """The table of mistakes that have to be found is that of the launcher, as long."""
    assert len(FAILURES.table("### Mistakes that have to be found")) == len(SABOTAGES)
