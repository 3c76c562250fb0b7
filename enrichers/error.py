"""`error` and `error_type`: whether the prediction failed, and what sort of failure its message tells of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enrichers import Enricher


def _status(codes: str) -> str:
    """Find HTTP codes where they are meant as such: `504` may also count rows."""
    return rf"(?:^|\bhttp\s|\bhttp/[0-9.]+\s|\b(?:status|code|error|response)\b[^0-9]{{0,12}})(?:{codes})\b"


DEFAULT_PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "out_of_memory": (
            r"out[ _-]?of[ _-]?memory|\boom(?:[ _-]?kill(?:ed|er)?)?\b|MemoryError|cannot allocate memory"
            r"|unable to allocate|bad_alloc|(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|java heap space"
            r"|memory limit exceeded"
        ),
        "rate_limit": (
            r"rate[ _-]?limit|too many requests|throttl(?:ed|ing)|quota exceeded|RESOURCE_EXHAUSTED"
            rf"|{_status('429')}"
        ),
        "timeout": rf"time[ds]?[ _-]?out|deadline[ _-]?exceeded|took too long|{_status('408|504')}",
        "connection": (
            r"ECONN(?:REFUSED|RESET|ABORTED)|\bEPIPE\b|EHOSTUNREACH|\bENOTFOUND\b|EAI_AGAIN|SSLError"
            r"|connection[ _-]?(?:error|refused|reset|aborted|closed|lost|failed)|broken pipe|unreachable"
            r"|(?:failed|unable|failure) to connect|(?:could not|cannot|can't) connect|socket hang up"
            r"|service unavailable|bad gateway|name or service not known|name resolution|no route to host"
            rf"|{_status('502|503')}"
        ),
        "permission": (
            r"permission[ _-]?(?:denied|error)|access[ _-]?denied|unauthori[sz]ed|unauthenticated|forbidden"
            r"|not authori[sz]ed|\bEACCES\b|\bEPERM\b|invalid (?:api[ _-]?key|token|credentials)"
            rf"|{_status('401|403')}"
        ),
        "not_found": (
            r"not[ _-]?found|no such (?:file|model|key|table|index|bucket)|does(?: not|n't) exist|\bENOENT\b"
            rf"|no module named|unknown model|{_status('404|410')}"
        ),
        "data": (
            r"KeyError|IndexError|JSONDecodeError|UnicodeDecodeError|ParserError|dtype|\bNaN\b"
            r"|could not (?:parse|decode|convert)|missing (?:values?|features?|columns?|data)\b"
            r"|shape mismatch|(?:expected|incompatible) (?:input )?shape"
            r"|shapes?\b[^\n]{0,80}\bnot (?:aligned|match)"
            r"|dimension mismatch|has [0-9]+ features|corrupt|malformed|truncated"
            r"|empty (?:input|batch|dataset|data ?frame)|division by zero|\bdata (?:error|loss|quality)"
        ),
        "validation": (
            r"validation|\binvalid\b|ValueError|TypeError|bad request|unprocessable|schema (?:mismatch|error)"
            r"|required (?:field|property)|(?:field|property) (?:is )?required|out of range|should be a"
            r"|must be (?:a|an|one|between|positive|greater|less)\b"
            rf"|{_status('400|422')}"
        ),
    }
)
"""Tried in this order: what names its cause exactly comes before what only names a family."""

# A message may be a megabyte; a traceback names its error in the first or in the last lines.
_READ_CHARACTERS = 1024
_KEPT_MESSAGES = 500  # a failure rarely comes alone, and looking for all patterns costs more than all else of an event


def error(*, patterns: Mapping[str, str] = DEFAULT_PATTERNS) -> Enricher:
    """Say whether it failed, and name the first pattern found in the message, else `unknown`."""
    compiled = [(name, _compile(name, pattern)) for name, pattern in patterns.items()]
    failures = {name: {"error": True, "error_type": name} for name in (*patterns, "unknown")}

    def enrich(event: Mapping[str, Any]) -> dict[str, Any]:
        failed, message = event.get("error"), event.get("error_message") or ""
        if failed is None:
            failed = message != ""
        if not failed:
            return {}
        return failures[sort_of(_excerpt(message))]

    @lru_cache(_KEPT_MESSAGES)
    def sort_of(excerpt: str) -> str:
        return next((name for name, pattern in compiled if pattern.search(excerpt)), "unknown")

    return enrich


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as cause:
        raise ValueError(f"the error pattern {name!r} is no regular expression: {cause}") from cause


def _excerpt(message: str) -> str:
    if len(message) <= 2 * _READ_CHARACTERS:
        return message
    return f"{message[:_READ_CHARACTERS]}\n{message[-_READ_CHARACTERS:]}"
