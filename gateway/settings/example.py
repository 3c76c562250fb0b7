"""Writes ``gateway.example.yaml`` from the settings: ``python -m gateway.settings.example > gateway.example.yaml``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.configuration import PLAIN_NAMES
from gateway.settings import Settings
from gateway.settings.section import GIB, MIB, Section

WIDTH = 120
_INDENT = "  "
_UNITS = ((GIB, "GiB"), (MIB, "MiB"), (1024, "KiB"))
_HEAD = """\
# Every setting of the gateway, with its default. As gateway.yaml in the working directory, or with --config FILE, it is
# read at the start; a file needs only the lines that differ.
#
# A line such as `#file: …` is not set, and what stands there is an example: take the # away and change it. The name at
# the end of each comment sets the same from the environment, which beats the file: lists by comma, maps as JSON. A
# secret is read from a file when _FILE is put behind its name.
"""


def example() -> str:
    """Return the text of the file; raise `ValueError` for a setting without default whose field has no ``examples``.

    A field with ``examples`` is commented out, also when it has a default: that it is set at all may mean something.
    """
    return _HEAD + "\n".join(_lines(Settings, "", "")) + "\n"


def _lines(section: type[BaseModel], path: str, indent: str) -> Iterator[str]:
    """Yield the lines of a section, whose settings are named ``path`` and their own name."""
    for name, field in section.model_fields.items():
        setting = f"{path}{name}"
        inner = _section(field)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if not path:
            yield ""
        yield from _comment(setting, field, indent, heading=inner is not None)
        if inner is not None:
            within = [f"{name}:", *_lines(inner, f"{setting}.", _INDENT)]
            yield from (f"{indent}{'' if isinstance(default, Section) else '#'}{line}".rstrip() for line in within)
        elif field.is_required():
            yield f"{indent}{_yaml(name, _given(field, setting))}"
        elif field.examples or default is None or default in ((), {}):
            yield from (f"{indent}#{line}" for line in _yaml(name, _given(field, setting)).splitlines())
        else:
            yield f"{indent}{_yaml(name, default)}{_size(name, default)}"


def _comment(setting: str, field: FieldInfo, indent: str, *, heading: bool) -> list[str]:
    plain = [name for name, path in PLAIN_NAMES.items() if path == setting]
    known = ["GATEWAY_" + setting.upper().replace(".", "__")] if "." in setting else []
    text = str(field.description) if heading else f"{field.description} {' or '.join(plain + known)}"
    mark = f"{indent}# "
    # Names are not cut at their hyphens, nor is what is commented out within what is commented out made too wide.
    return textwrap.wrap(
        text,
        WIDTH - len(_INDENT) * 2,
        initial_indent=mark,
        subsequent_indent=mark,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _section(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field is, or may be."""
    options = get_args(field.annotation)
    for kind in options if type(None) in options else (field.annotation,):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _given(field: FieldInfo, setting: str) -> Any:
    if not field.examples:
        raise ValueError(f"{setting} has no default: give its Field `examples` of a value")
    return field.examples[0]


def _yaml(name: str, value: Any) -> str:
    plain = str(value) if isinstance(value, Path) else value
    text: str = yaml.safe_dump({name: plain}, sort_keys=False, allow_unicode=True, width=WIDTH)
    return text.rstrip("\n")


def _size(name: str, value: Any) -> str:
    """Return a comment that says bytes in a larger unit."""
    for size, unit in _UNITS:
        if name.endswith("bytes") and value and value % size == 0:
            return f"  # {value // size} {unit}"
    return ""


if __name__ == "__main__":
    sys.stdout.write(example())
