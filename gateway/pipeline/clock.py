"""When an event happened: `@timestamp` and `timestamp` read, checked and written as UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from schemas.fault import Fault, json_path, json_text

# Written like this it is kept byte for byte; Elasticsearch's strict_date_optional_time reads it.
_UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?Z", re.ASCII)
_ISO_TEXT = re.compile(r"[-\dWw]+([Tt ][\d:.,]+)? ?(?P<zone>[Zz]|[+-]\d\d:?(\d\d)?)?", re.ASCII)
_NUMBER_TEXT = re.compile(r"\d{9,}(\.\d+)?", re.ASCII)
_FRACTION = re.compile(r"(?:\.\d{1,9})?Z", re.ASCII).fullmatch  # behind the second
_SECOND_CHARACTERS = 19
_MAX_FRACTIONS = 2000
_MAX_TEXT = 64  # characters; no time is longer
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# The store's retention limits only as long as the other setting is not set.
_REMEDIES = {"store.retention_days": "set events.max_age_days"}
# Zones are at most this far ahead of UTC, by whole quarters of an hour; an event is on its way for a moment.
_MAX_OFFSET_SECS = 15 * 3600
_QUARTER_SECS = 900
_NEAR_SECS = 60


class Moment(NamedTuple):
    """A time as `@timestamp` text, with its UTC day as index names have it."""

    text: str
    day: str


class Clock:
    """Reads times by the rules of the settings."""

    def __init__(
        self,
        naive_timezone: str,
        max_age_days: int | None,
        max_future_secs: float,
        *,
        age_setting: str = "events.max_age_days",
    ) -> None:
        """Raise ValueError for a time zone that is not known."""
        try:
            self._zone: tzinfo = UTC if naive_timezone == "UTC" else ZoneInfo(naive_timezone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{naive_timezone!r} is not a time zone, such as Europe/Berlin") from None
        self._max_age_days = max_age_days
        self._age_setting = age_setting
        self._max_future_secs = max_future_secs
        self._fractions: set[str] = set()

    def at(self, received: float, now: float | None = None) -> BlockClock:
        """Return the clock for one block, of times in seconds since 1970.

        ``now``, by which an event is too old or too new: where the block was received earlier.
        """
        now = received if now is None else now
        return BlockClock(
            self._zone, self._max_age_days, self._max_future_secs, received, now, self._age_setting, self._fractions
        )


class BlockClock:
    """The clock while one block is read."""

    def __init__(
        self,
        zone: tzinfo,
        max_age_days: int | None,
        max_future_secs: float,
        received: float,
        now: float,
        age_setting: str,
        fractions: set[str],
    ) -> None:
        self._zone = zone
        self._fractions = fractions  # that were read, of all blocks
        self._now = datetime.fromtimestamp(now, UTC)
        arrived = datetime.fromtimestamp(received, UTC)
        self.received = moment(arrived)
        self._max_age_days = max_age_days
        self._age_setting = age_setting
        self._oldest = None if max_age_days is None else _moved(self._now, -max_age_days * 86400)
        self._newest = _moved(self._now, max_future_secs)
        self._max_future_secs = max_future_secs
        # Of each second that was read, as UTC with Z, and lies within the limits as a whole.
        self._days: dict[str, str] = {}
        # What an event without a time of its own gets.
        self.of_receipt: Moment | Fault = self.received
        if self._oldest is not None and arrived < self._oldest:
            self.of_receipt = self._too_old("timestamp", self.received.text)

    def of_event(self, fields: dict[str, Any]) -> Moment | Fault:
        """Return the event's time, that of receipt when it has none, or why it cannot be."""
        name, value = "@timestamp", fields.get("@timestamp")
        if value is None:
            name, value = "timestamp", fields.get("timestamp")
        return self.of_receipt if value is None else self.read(name, value)

    def day_of(self, text: str) -> str | None:
        """Return the day of a time that is kept as it is, if another one of its second was read before."""
        day = self._days.get(text[:_SECOND_CHARACTERS])
        if day is None:
            return None
        fraction = text[_SECOND_CHARACTERS:]
        return day if fraction in self._fractions or self._is_fraction(fraction) else None

    def _is_fraction(self, text: str) -> bool:
        """Whether this may stand behind a second; most are milliseconds, of which there are few."""
        if text in self._fractions:
            return True
        is_one = _FRACTION(text) is not None
        if is_one and len(self._fractions) < _MAX_FRACTIONS:
            self._fractions.add(text)
        return is_one

    def read(self, name: str, value: Any, *, limited: bool = True) -> Moment | Fault:
        """Return the time that a field holds, or why it cannot be; ``limited``: too old or too new it cannot be."""
        if type(value) is str:
            day = self._days.get(value[:_SECOND_CHARACTERS])
            if day is not None and self._is_fraction(value[_SECOND_CHARACTERS:]):
                return Moment(value, day)
        try:
            when, digits = self._parse(value)
            if limited and self._oldest is not None and when < self._oldest:
                return self._too_old(name, value)
            if limited and when > self._newest:
                ahead = (when - self._now).total_seconds()
                return self._fault(
                    name,
                    value,
                    "in_the_future",
                    f"The event is {round(ahead)} s ahead of this machine's clock, "
                    f"more than {self._max_future_secs:g} s (events.max_future_secs).",
                    _why_ahead(value, when, ahead),
                )
            if isinstance(value, str) and _UTC_TEXT.fullmatch(value):
                found = Moment(value, value[:10].replace("-", "."))
                self._remember(when, found)
                return found
            return moment(when, digits)
        except (ValueError, OverflowError):
            return self._fault(
                name,
                value,
                "timestamp_invalid",
                "Not a time: ISO 8601 such as 2026-01-31T12:00:00Z, or a number since 1970 in s, ms, us or ns.",
            )

    def _remember(self, when: datetime, found: Moment) -> None:
        """Remember a second, of which others of its events are likely to be."""
        text = found.text[:_SECOND_CHARACTERS]
        is_within = (self._oldest is None or when - self._oldest >= _SECOND) and self._newest - when >= _SECOND
        if is_within and when.replace(microsecond=0, tzinfo=None).isoformat() == text:
            self._days[text] = found.day

    def _parse(self, value: Any) -> tuple[datetime, str]:
        """Return the time, and its digits behind the second when they are finer than a datetime."""
        if isinstance(value, str):
            if len(value) > _MAX_TEXT:
                raise ValueError
            if _NUMBER_TEXT.fullmatch(value):
                return self._parse(float(value) if "." in value else int(value))
            if not _ISO_TEXT.fullmatch(value):
                raise ValueError
            when = datetime.fromisoformat(value.upper().replace(",", "."))
            return when.replace(tzinfo=self._zone) if when.tzinfo is None else when, ""
        if type(value) not in (int, float) or value < 0:
            raise ValueError
        unit = 1 if value < 1e11 else 1000 if value < 1e14 else 1_000_000 if value < 1e17 else 1_000_000_000
        if type(value) is int:
            secs, rest = divmod(value, unit)
            nanos = rest * (1_000_000_000 // unit)
            return _EPOCH + timedelta(seconds=secs, microseconds=nanos // 1000), f"{nanos:09d}" if nanos % 1000 else ""
        return _EPOCH + timedelta(microseconds=round(value * (1_000_000 / unit))), ""

    def _too_old(self, name: str, value: Any) -> Fault:
        return self._fault(
            name,
            value,
            "too_old",
            f"The event is older than {self._max_age_days} days ({self._age_setting}).",
            "Is the sender's clock right? "
            f"To take old events, {_REMEDIES.get(self._age_setting, f'raise {self._age_setting}')}.",
        )

    @staticmethod
    def _fault(name: str, value: Any, rule: str, message: str, hint: str | None = None) -> Fault:
        return Fault(json_path([name]), rule, message, json_text(value), hint)


def _why_ahead(value: Any, when: datetime, secs: float) -> str:
    """Say what makes an event's time lie ``secs`` ahead: a wrong clock, unless local time passed for UTC."""
    found = _ISO_TEXT.fullmatch(value) if isinstance(value, str) else None
    if found is not None and not _NUMBER_TEXT.fullmatch(value) and secs < _MAX_OFFSET_SECS:
        if found["zone"] is None:
            return "Local time sent without its zone? Send UTC with Z, or set events.naive_timezone."
        from_quarter = abs((secs + _QUARTER_SECS / 2) % _QUARTER_SECS - _QUARTER_SECS / 2)
        if not when.utcoffset() and from_quarter <= _NEAR_SECS:
            return "Is it local time, marked as UTC? Send UTC, or the zone with it, such as +02:00."
    return "Is the sender's clock right?"


def _moved(when: datetime, secs: float) -> datetime:
    """Return the time ``secs`` later, or the last or first there is."""
    try:
        return when + timedelta(seconds=secs)
    except OverflowError:
        return (datetime.max if secs > 0 else datetime.min).replace(tzinfo=UTC)


def moment(when: datetime, digits: str = "") -> Moment:
    """Return a time as UTC text, with as many digits behind the second as it needs."""
    when = when.astimezone(UTC)
    text = when.strftime("%Y-%m-%dT%H:%M:%S") if when.year >= 1000 else when.isoformat()[:19]
    micros = when.microsecond
    if digits:
        text += "." + digits
    elif micros:
        text += f".{micros // 1000:03d}" if micros % 1000 == 0 else f".{micros:06d}"
    return Moment(text + "Z", f"{when.year:04d}.{when.month:02d}.{when.day:02d}")
