"""Format versions on disk: a newer file is refused, an older one is brought up to date, a step at a time.

A file that carries its version in itself has a list of SQL scripts: the first makes version 1 out of nothing,
each further one makes the next version. A script and the new number are one transaction, so that a crash leaves
one version or the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.errors import FormatVersionError


def refuse_newer(path: Path, found: int, known: int) -> None:
    """Raise `FormatVersionError` when ``path`` has a version beyond the ``known`` one."""
    if found > known:
        raise FormatVersionError(
            f"{path} has format version {found}, this gateway reads up to {known}: "
            "start a newer version, or name another data_dir."
        )


def migrate(found: int, scripts: Sequence[str], set_version: str, run: Callable[[str], object]) -> None:
    """Run the scripts that come after version ``found``, with ``run`` for several statements of SQL.

    ``set_version`` is the statement that notes a version, with ``{}`` in its place. Raises what ``run`` raises:
    close the file then, which takes back the step that did not come to its end.
    """
    for version, script in enumerate(scripts[found:], found + 1):
        run(f"BEGIN;\n{script};\n{set_version.format(version)};\nCOMMIT;")
