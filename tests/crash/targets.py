"""Replaces functions of the gateway by dotted name, from outside: nothing in the gateway knows of it."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any


def find(target: str) -> tuple[Any, str]:
    """Return what holds a dotted name such as ``gateway.spool.spool.Spool.append``, and its last part.

    Raises LookupError when there is no such thing.
    """
    parts = target.split(".")
    for at in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:at]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[at:-1]:
                owner = getattr(owner, part)
            inspect.getattr_static(owner, parts[-1])
        except AttributeError:
            break
        return owner, parts[-1]
    raise LookupError(f"there is no {target}")


def replace(target: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put what ``make`` returns for the function of that name into its place."""
    owner, name = find(target)
    static = isinstance(inspect.getattr_static(owner, name), staticmethod)
    new = make(getattr(owner, name))
    setattr(owner, name, staticmethod(new) if static else new)
