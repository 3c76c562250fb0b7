"""A step from one format version to the next is whole, or it did not happen."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from gateway.errors import FormatVersionError
from gateway.versions import migrate, refuse_newer

SCRIPTS = (
    "CREATE TABLE version (number INTEGER); INSERT INTO version VALUES (0); CREATE TABLE rows (a INTEGER)",
    "INSERT INTO rows VALUES (1); ALTER TABLE rows ADD COLUMN b INTEGER",
    "INSERT INTO rows VALUES (2, 2); UPDATE rows SET b = 1 WHERE b IS NULL",
)
SET_VERSION = "UPDATE version SET number = {}"


class Engine:
    """A database file of one of the two engines."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path
        self.opened: Any = None
        self.run: Callable[[str], object]
        self.open()

    def open(self) -> None:
        """Open the file, closing it first when it is."""
        if self.opened is not None:
            self.opened.close()
        if self._name == "sqlite":
            self.opened = sqlite3.connect(self._path, isolation_level=None)
            self.run = self.opened.executescript
        else:
            self.opened = duckdb.connect(self._path)
            self.run = self.opened.execute

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        found: list[tuple[Any, ...]] = self.opened.execute(query).fetchall()
        return found


@pytest.fixture(params=["sqlite", "duckdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A new file."""
    engine = Engine(request.param, tmp_path / "file")
    yield engine
    engine.opened.close()


@pytest.mark.parametrize("found", [0, 1, 2, 3])
def test_from_every_version(engine: Engine, found: int) -> None:
    """From each version on the file comes to the last, with what was in it."""
    migrate(0, SCRIPTS[:found], SET_VERSION, engine.run)
    migrate(found, SCRIPTS, SET_VERSION, engine.run)
    assert engine.rows("SELECT number FROM version") == [(3,)]
    assert engine.rows("SELECT * FROM rows ORDER BY a") == [(1, 1), (2, 2)]


@pytest.mark.parametrize("failing", ["INSERT INTO nowhere VALUES (1)", "this is no SQL"])
def test_a_step_that_fails_is_taken_back(engine: Engine, failing: str) -> None:
    """When a step fails in its middle the steps before it stay, of itself nothing does, and it can be run again."""
    broken = (*SCRIPTS[:2], f"INSERT INTO rows VALUES (2, 2); {failing}")
    with pytest.raises((sqlite3.Error, duckdb.Error)):
        migrate(0, broken, SET_VERSION, engine.run)
    engine.open()
    assert engine.rows("SELECT number FROM version") == [(2,)]
    assert engine.rows("SELECT * FROM rows") == [(1, None)]
    migrate(2, SCRIPTS, SET_VERSION, engine.run)
    assert engine.rows("SELECT * FROM rows ORDER BY a") == [(1, 1), (2, 2)]


def test_only_newer_is_refused() -> None:
    """A version up to the known one is read."""
    refuse_newer(Path("f"), 0, 2)
    refuse_newer(Path("f"), 2, 2)
    with pytest.raises(FormatVersionError, match="f has format version 3, this gateway reads up to 2: "):
        refuse_newer(Path("f"), 3, 2)
