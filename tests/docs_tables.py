"""The tables of fields in docs/events.md, from the schemas: `python -m tests.docs_tables --write` renews them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from schemas import BUILT_IN, fields, json_schema
from tests.documents import DOCS

EVENTS = DOCS / "events.md"
_MARKED = re.compile(r"(<!-- fields: (\w+) -->\n)((?:\|.*\n)*)")
_COMMON = ("@timestamp", "timestamp", "type", "event_id")  # in a table of their own


def renewed(text: str) -> str:
    """Return the document with every marked table as the schemas have it."""
    return _MARKED.sub(lambda found: found[1] + "".join(_table(found[2])), text)


def marked(text: str) -> list[str]:
    """Return the kinds whose tables a document has."""
    return [found[2] for found in _MARKED.finditer(text)]


def _table(name: str) -> Iterator[str]:
    kind = BUILT_IN.kinds[name]
    described = json_schema(kind)["properties"]
    yield "| field | type | meaning |\n|---|---|---|\n"
    for field in fields(kind):
        if field["name"] not in _COMMON:
            required = ", required" if field["required"] else ""
            takes = _takes(field, described[field["name"]])
            yield f"| `{field['name']}` | {takes}{required} | {field['description']} |\n"


def _takes(field: dict[str, Any], described: dict[str, Any]) -> str:
    schema = next(each for each in described.get("anyOf", [described]) if each.get("type") != "null")
    if "values" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["values"])
    match field["type"]:
        case "text" | "string":
            return "string, number or boolean" if "boolean" in schema.get("type", ()) else "string"
        case "date":
            return "time"
        case "list":
            return "list of strings"
        case "object" if schema["additionalProperties"] is not True:
            return "object of numbers" if "'type': 'number'" in str(schema) else "object of strings"
    least, most = field.get("minimum"), field.get("maximum")
    bounds = "" if least is None else f", from {least}" if most is None else f", {least} to {most}"
    return f"{field['type']}{bounds}"


def main() -> None:
    """Print the document with its tables renewed, or write it."""
    text = renewed(EVENTS.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--write"]:
        EVENTS.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
