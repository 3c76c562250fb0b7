"""The tables of state.sqlite3, and how figures are put into theirs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

Blobs = Mapping[tuple[str, int], bytes | None]
"""Figures by folder and minute; None where they are gone."""

# The script at place n makes version n + 1, see `gateway.versions`: add one, never change one.
MIGRATIONS = (
    # Some of it may be there: the first release did not make it in one transaction.
    """
CREATE TABLE IF NOT EXISTS cursors (
    reader TEXT NOT NULL, folder TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
    sequence INTEGER NOT NULL, accepted INTEGER NOT NULL, base INTEGER, indexed INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, dead_letters INTEGER NOT NULL, skipped INTEGER NOT NULL,
    damaged INTEGER NOT NULL, parked INTEGER NOT NULL, PRIMARY KEY (reader, folder));
CREATE TABLE IF NOT EXISTS sinks (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL UNIQUE, at REAL NOT NULL, source TEXT NOT NULL,
    peer TEXT NOT NULL, tenant TEXT, reason TEXT NOT NULL, path TEXT NOT NULL, rule TEXT NOT NULL,
    message TEXT NOT NULL, data BLOB, data_bytes INTEGER NOT NULL, index_name TEXT);
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason, path);
CREATE TABLE IF NOT EXISTS parked (
    sink TEXT NOT NULL, origin TEXT NOT NULL, index_name TEXT NOT NULL, since REAL NOT NULL,
    action BLOB NOT NULL, document BLOB NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (sink, origin));
CREATE INDEX IF NOT EXISTS parked_by_index ON parked (sink, index_name, since)
""",
    # Refusals are told by what was wrong with them: how many, since when, until when.
    """
DROP INDEX letters_by_reason;
CREATE INDEX letters_by_rule ON letters (reason, path, rule, at)
""",
    # They are sent again, with the identity they had; a row may stand for several whose bytes are not kept.
    """
ALTER TABLE letters ADD COLUMN kind TEXT;
ALTER TABLE letters ADD COLUMN document_id TEXT;
ALTER TABLE letters ADD COLUMN events INTEGER NOT NULL DEFAULT 1;
ALTER TABLE letters ADD COLUMN last REAL;
ALTER TABLE letters ADD COLUMN bytes_kept INTEGER NOT NULL DEFAULT 1;
UPDATE letters SET bytes_kept = 0 WHERE data IS NULL AND data_bytes > 0;
DROP INDEX letters_by_rule;
CREATE INDEX letters_by_rule ON letters (reason, path, rule, at, events, last, bytes_kept)
""",
    # Figures of the documents that the first sink has indexed, where its cursor is here.
    """
CREATE TABLE figures (folder TEXT NOT NULL, minute INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (folder, minute))
""",
)


def write_figures(db: sqlite3.Connection, figures: Blobs) -> None:
    """Put figures in their place."""
    for (folder, minute), data in figures.items():
        if data is None:
            db.execute("DELETE FROM figures WHERE folder = ? AND minute = ?", (folder, minute))
        else:
            db.execute("INSERT OR REPLACE INTO figures VALUES (?, ?, ?)", (folder, minute, data))
