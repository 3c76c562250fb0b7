"""What the gateway is and how it is set: version, settings without secrets, health, what the machine gives it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import gateway
from gateway.console.health import troubles
from gateway.console.layout import Context, Page
from gateway.console.view import View
from gateway.settings import Settings


def page(settings: Settings, status: Callable[[], dict[str, Any]]) -> Page:
    """Return the page."""
    default = {name: value for name, _, value in _flat(Settings.model_construct().model_dump(mode="json"))}

    async def health(_: View) -> Context:
        now = status()
        return {"status": now, "troubles": troubles(now)}

    async def about(_: View) -> Context:
        return {
            "facts": {
                "Gateway": gateway.__version__,
                "Python": platform.python_version(),
                "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
                "Data directory": str(settings.data_dir.resolve()),
            }
        }

    async def chosen(_: View) -> Context:
        rows = [(name, value, value != default.get(name)) for name, _, value in _flat(settings.model_dump(mode="json"))]
        return {"rows": rows}

    return Page(
        "system", "/system", "System", panels={"health": health, "about": about, "settings": chosen}, has_range=False
    )


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", prefix, "" if value is None else str(value)))
    return rows
