"""Errors that cross a room's border. Each says what to do next."""

from __future__ import annotations

from typing import Any


class GatewayError(Exception):
    """Something a user can mend: its text is one sentence, shown without a stack trace."""


class SettingsError(GatewayError):
    """Settings are wrong; ``mistakes`` holds all of them, one sentence each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class FormatVersionError(GatewayError):
    """A file was written by a newer version of the gateway and is left alone."""


class LimitReached(GatewayError):
    """A limit that the message names: wait and send again. Nothing was taken."""


class SpoolFull(LimitReached):
    """The spool has no room: wait and send again. Nothing was taken."""


class SpoolUnavailable(GatewayError):
    """The spool cannot be written: wait and send again. Nothing was taken."""


class Stopping(GatewayError):
    """The gateway is stopping: send again to the next one. Nothing was taken."""


class Incomplete(GatewayError):
    """Something was done in part: ``done`` says what, ``cause`` why no more."""

    def __init__(self, text: str, done: dict[str, Any], cause: GatewayError) -> None:
        super().__init__(text)
        self.done = done
        self.cause = cause
