"""The shape of every event: the only source of truth, from which mapping, columns and JSON schema come.

A new kind is one file with its TypedDict and one line in `kinds.py`.
"""

from schemas.fault import Fault
from schemas.kinds import KINDS, Kind, choose, unknown_kind_hint
from schemas.mapping import Column, columns, index_template, json_schema, properties

__all__ = [
    "KINDS",
    "Column",
    "Fault",
    "Kind",
    "choose",
    "columns",
    "index_template",
    "json_schema",
    "properties",
    "unknown_kind_hint",
]
