"""What the gateway is and how it is set: health and what to do, sources, spool, sinks, indices, settings."""

from __future__ import annotations

import asyncio
import platform
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, SecretStr

import gateway
from gateway.console.asking import Asking
from gateway.console.health import Status, stored, troubles
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.console.words import size
from gateway.settings import Settings

MOST_INDICES = 100
HIDDEN = "set, not shown"
_USER_OF_ADDRESS = re.compile(r"(?<=//)[^/@]*@|(?<=\?).+")
_PRIVATE = re.compile(r"secret|passw|token|credential|api_?key", re.IGNORECASE)
_TRIES_AGAIN = "Nothing is lost: what it has not taken waits on disk, and the gateway tries again by itself."


class Setting(NamedTuple):
    """A row of the settings: what it is, in words that show no secret."""

    name: str
    meaning: str
    value: str
    note: str
    """The same in a larger unit."""
    default: str | None
    """What it would be, where it is something else."""


def page(settings: Settings, status: Callable[[], Status], asking: Asking) -> Page:
    """Return the page; ``status`` gives what `/status` says."""
    sections = list(_sections(settings))
    changed = [each for _, _, rows in sections for each in rows if each.default is not None]

    async def health(_: View) -> Context:
        now = status()
        return {"status": now, "stored": stored(now), "troubles": troubles(now), "advice": advice(now)}

    async def about(_: View) -> Context:
        began = datetime.now(UTC).timestamp() - status()["uptime_secs"]
        facts = {
            "Gateway": gateway.__version__,
            "Python": platform.python_version(),
            "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "Data directory": str(await asyncio.to_thread(settings.data_dir.resolve)),
        }
        return {"facts": facts, "began": round(began)}

    async def sources(_: View) -> Context:
        now = status()
        places = {"http": (settings.http.host, settings.http.port), "tcp": (settings.tcp.host, settings.tcp.port)}
        addresses = {name: f"{host}:{port}" for name, (host, port) in places.items() if port}
        return {"status": now, "addresses": addresses}

    async def sinks(_: View) -> Context:
        return {"status": status()}

    async def spool(_: View) -> Context:
        return {"status": status(), "most_letters": settings.dead_letters.max_bytes}

    async def indices(_: View) -> Context:
        found = await asking.made("indices", lambda store: store.indices())
        newest = sorted(found, key=lambda each: (each.name[-10:], each.name), reverse=True)
        sums = {"documents": sum(each.documents for each in found), "bytes": sum(each.bytes or 0 for each in found)}
        return {"rows": newest[:MOST_INDICES], "all": len(found), **sums}

    async def chosen(_: View) -> Context:
        return {"sections": sections, "changed": changed}

    panels = {"health": health, "about": about, "sources": sources, "sinks": sinks, "spool": spool}
    panels |= {"indices": indices, "settings": chosen}
    return Page("system", "/system", "System", panels=panels, has_range=False, styles=("system.css",))


def advice(status: Status) -> list[str]:
    """Return what to do about what is wrong, where the trouble's own sentence does not say it."""
    found = []
    if status["books"]["difference"]:
        found.append("The gateway's log names the step at which the books do not balance: that is a mistake of ours.")
    for name, sink in status["sinks"].items():
        if sink["state"] == "retrying":
            look = " gateway check --connect says whether address and key are right." if name == "elasticsearch" else ""
            found.append(f"{name}: {_TRIES_AGAIN}{look}")
        elif sink["state"] == "stopped":
            found.append(f"{name}: what it has not taken waits on disk. Do as its error says, or restart.")
    if status["spool"]["full"]:
        found.append("Senders wait until there is room: mend the sink that is behind, or make room on the disk.")
    return found


def _sections(settings: Settings) -> Iterator[tuple[str, str, list[Setting]]]:
    """Give each section with its meaning and settings, first those that belong to none."""
    alone = {name for name in type(settings).model_fields if not isinstance(getattr(settings, name), BaseModel)}
    yield "general", "What belongs to no other section.", [each for each in _rows(settings, "") if each.name in alone]
    for name, field in type(settings).model_fields.items():
        if name not in alone:
            yield name, field.description or "", list(_rows(getattr(settings, name), f"{name}."))


def _rows(section: BaseModel, prefix: str) -> Iterator[Setting]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name}.") if prefix else ()
            continue
        default = value if field.is_required() else field.get_default(call_default_factory=True)
        large = name.endswith("_bytes") and isinstance(value, int) and value >= 1024
        meaning = (field.description or "").replace("`", "")
        other = None if value == default else _words(name, default)
        yield Setting(prefix + name, meaning, _words(name, value), size(value) if large else "", other)


def _words(name: str, value: Any) -> str:
    """Write a value as the settings file has it; a secret only as being there."""
    if value is None or value in ((), {}, ""):
        return "not set"
    if isinstance(value, SecretStr) or (_PRIVATE.search(name) and not isinstance(value, tuple | bool)):
        return HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple) and _PRIVATE.search(name):
        return f"{len(value)} {HIDDEN}"
    if isinstance(value, tuple):
        return ", ".join(_words("", each) for each in value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict | BaseModel):
        return orjson.dumps(_plain(value)).decode()
    return _USER_OF_ADDRESS.sub("…", str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_defaults=True)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if isinstance(value, bool | int | float) else _words("", value)
