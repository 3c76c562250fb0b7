"""All kinds that one gateway knows, and what follows from them; made once, at the start."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from schemas.fault import misspelt
from schemas.kind import Kind
from schemas.mapping import Column, columns, index_template

_DAY = re.compile(r"-\d{4}\.\d\d\.\d\d$")


class Registry:
    """Kinds by name, by type, by index. Never changes."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """Take kinds that fit together; of those that an event could be, it is the first."""
        self.kinds: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in kinds})
        self.told: Mapping[str, Kind] = {name: kind for name, kind in self.kinds.items() if not kind.internal}
        """Those that users are told of."""
        self.indices = tuple(dict.fromkeys(kind.index for kind in self.kinds.values()))
        """Every index once, without prefix and day."""
        self._deciding = tuple((key, kind) for kind in self.kinds.values() for key in kind.decided_by)
        by_type: dict[str, list[Kind]] = {}
        for kind in self.kinds.values():
            by_type.setdefault(kind.type, []).append(kind)
        # Of several kinds of one type, one without deciding keys is what the keys of the others leave.
        self._by_type: dict[str, tuple[Kind, tuple[Kind, ...]]] = {}
        for name, alike in by_type.items():
            *others, last = sorted(alike, key=lambda kind: not kind.decided_by)
            self._by_type[name] = last, tuple(others)

    def choose(self, event: dict[str, Any]) -> Kind | None:
        """Find an event's kind: by a known `type`, else by the first deciding key it has; `null` is absent."""
        declared = event.get("type")
        found = self._by_type.get(declared) if isinstance(declared, str) else None
        if found is None:
            return next((kind for key, kind in self._deciding if event.get(key) is not None), None)
        last, others = found
        for kind in others:
            if any(event.get(key) is not None for key in kind.decided_by):
                return kind
        return last

    def unknown_kind_hint(self, event: Iterable[str] = ()) -> str:
        """Say what an event of no kind lacks, and which of its keys may be meant as one that decides."""
        types = ", ".join(dict.fromkeys(kind.type for kind in self.told.values()))
        keys = tuple(key for key, _ in self._deciding)
        hint = f"a type ({types}) or one of the keys {', '.join(keys)}"
        meant = misspelt(event, keys)
        return f"Send {hint}" if meant is None else f"{meant} If not, send {hint}"

    def kinds_in(self, index: str) -> list[Kind]:
        """Give the kinds that go to an index, named without prefix and day; raise ValueError when none does."""
        kinds = [kind for kind in self.kinds.values() if kind.index == index]
        if not kinds:
            raise ValueError(f"no kind of event goes to the index {index!r}")
        return kinds

    def split(self, index: str) -> tuple[str, str | None]:
        """Give prefix and index of a daily index, whatever its prefix; an index of no known kind is ("", None)."""
        name = _DAY.sub("", index)
        base = max((each for each in self.indices if name.endswith(each)), key=len, default=None)
        return ("", None) if base is None else (name.removesuffix(base), base)

    def columns(self, index: str) -> dict[str, Column]:
        """Give the known fields of an index that hold one plain value, and what each holds."""
        return columns(self.kinds_in(index))

    def index_template(self, index: str, **settings: Any) -> dict[str, Any]:
        """Give the body of `PUT _index_template` for an index: `schemas.mapping.index_template`."""
        return index_template(self.kinds_in(index), **settings)
