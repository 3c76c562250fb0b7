"""The kinds of events that this gateway knows: the built-in ones, with a user's fields, and a user's own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from gateway.errors import SettingsError
from gateway.settings import Settings
from schemas import BUILT_IN, Kind, Registry, own


def make_registry(settings: Settings) -> Registry:
    """Return the kinds; raise `SettingsError` with every mistake. Runs the files of `schemas.files`.

    A mistake is also an `events.index_prefix` with which indices could not be told apart.
    """
    mistakes: list[str] = []
    kinds = dict(BUILT_IN.kinds)
    mine: list[Kind] = []
    for path in settings.schemas.files:
        for kind in _kinds_of(path, mistakes):
            wrong = list(own.wrong_kind(kind))
            if not wrong and kind.name in kinds:
                wrong.append("there is a kind of this name already: choose another")
            mistakes += [f"schemas.files: {path}: kind {kind.name!r}: {each}." for each in wrong]
            if not wrong:
                kinds[kind.name] = kind
                mine.append(kind)
    for name, fields in settings.schemas.extra_fields.items():
        where = f"schemas.extra_fields.{name}"
        if name not in kinds:
            there = ", ".join(kind.name for kind in kinds.values() if not kind.internal)
            mistakes.append(f"{where}: there is no kind {name!r}, there are {there}.")
            continue
        if kinds[name].document is not None:
            mistakes.append(f"{where}: its events are stored as they were sent, so that they have no extra fields.")
            continue
        for field, settled in fields.items():
            if (told := own.wrong_field(kinds[name], field)) is not None:
                mistakes.append(f"{where}.{field}: {told}.")
            else:
                kinds[name] = own.extended(kinds[name], {field: own.field(**settled.model_dump())})
    mistakes += [f"schemas: {each}." for each in own.clashes(kinds.values(), mine)]
    # Whoever names a key means the events that have it, whatever else they have.
    first = [kinds.pop(kind.name) for kind in mine]
    changed = settings.schemas.files or settings.schemas.extra_fields
    registry = Registry((*first, *kinds.values())) if changed else BUILT_IN
    mistakes += _ambiguities(settings.events.index_prefix, registry)
    if mistakes:
        raise SettingsError(mistakes)
    return registry


def _ambiguities(prefix: str, registry: Registry) -> Iterator[str]:
    """Say which indices with the prefix are those of other kinds, or of other gateways, without it."""
    for index in registry.indices:
        if prefix.startswith(f"{index}-"):
            yield f"events.index_prefix: {prefix!r} begins like the daily indices of {index!r}: choose another."
        found = registry.split(f"{prefix}{index}-2000.01.01")
        if found != (prefix, index):
            yield (
                f"events.index_prefix: {prefix + index!r} is an index of two kinds, {index!r} with the prefix "
                f"{prefix!r} and {found[1]!r}: choose another prefix or another index."
            )


def _kinds_of(path: Path, mistakes: list[str]) -> list[Kind]:
    """Run a file and return the kinds it defines."""
    where = f"schemas.files: {path}"
    try:
        code = path.read_bytes()
    except OSError as error:
        # Its whole path, since it is looked for in the working directory, not beside the settings file.
        mistakes.append(f"schemas.files: {path.absolute()} cannot be read: {error.strerror}.")
        return []
    module = ModuleType(f"schemas of {path.resolve()}")
    module.__file__ = str(path)
    # Where pydantic looks for the names in annotations.
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, str(path), "exec"), module.__dict__)  # noqa: S102 - the user's own file
    except (Exception, SystemExit) as error:
        mistakes.append(_failure(where, path, error))
        return []
    built_in = {id(kind) for kind in BUILT_IN.kinds.values()}
    found = {id(each): each for each in vars(module).values() if isinstance(each, Kind) and id(each) not in built_in}
    if not found:
        mistakes.append(f"{where} defines no kind: give it one, such as X = Kind('x', 'x', 'ml-x', Event).")
    return list(found.values())


def _failure(where: str, path: Path, error: BaseException) -> str:
    """Say what went wrong in which line of the file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):
        what = f"{type(error).__name__}: {error.msg}"
        if error.filename == str(path) and error.lineno is not None:
            lines.append(error.lineno)
    return f"{where}{f', line {lines[-1]}' if lines else ''}: {what.rstrip('.: ')}."
