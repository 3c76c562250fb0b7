"""The format versions of a whole data directory, looked at before anything in it is changed."""

from __future__ import annotations

from pathlib import Path

from gateway.spool import segment, state
from gateway.versions import refuse_newer


def check_formats(data_dir: Path) -> None:
    """Raise `FormatVersionError` when a newer gateway wrote any file; changes nothing. Raises OSError, blocks."""
    file = data_dir / "state.sqlite3"
    refuse_newer(file, state.version_of(file), state.VERSION)
    for folder in sorted((data_dir / "spool").glob("*/")):
        for number in segment.segments_in(folder):
            segment.check_version(segment.path_of(folder, number))
    file = data_dir / "store.duckdb"
    if file.exists():
        from gateway.store import catalog  # loads the engine: only where there is something to read

        refuse_newer(file, catalog.version_of(file), catalog.VERSION)
