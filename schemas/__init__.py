"""The shape of every event: the only source of truth, from which mapping, columns and JSON schema come.

A new kind is one file with its TypedDict and one line in `kinds.py`.
"""

from schemas.description import fields, json_schema
from schemas.fault import Fault
from schemas.kind import Kind
from schemas.kinds import BUILT_IN
from schemas.mapping import Column, properties
from schemas.registry import Registry

__all__ = ["BUILT_IN", "Column", "Fault", "Kind", "Registry", "fields", "json_schema", "properties"]
