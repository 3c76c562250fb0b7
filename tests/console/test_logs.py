"""The page of log lines: its numbers are those of the lines that were sent."""

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from gateway.console.pages import logs
from gateway.console.view import View, view
from gateway.store.query import QueryError
from tests.console.stores import Document, asking

pytestmark = pytest.mark.anyio

SINCE, UNTIL = datetime(2026, 11, 20, 23, 30, tzinfo=UTC), datetime(2026, 11, 21, 0, 30, tzinfo=UTC)
LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "error", None]
MESSAGES = ["done", "time out after 3 s", 'a "quote" & <b>more</b>', " ".join(f"word{n}" for n in range(40))]
Lines = list[Document]


def lines(count: int = 600) -> Lines:
    """Return lines of two hours around midnight, some of them outside of what is looked at."""
    chance = random.Random(5)
    found = []
    for n in range(count):
        when = SINCE + timedelta(seconds=chance.uniform(-1800, 5400), microseconds=n)
        line: Document = {"@timestamp": when.isoformat().replace("+00:00", "Z"), "type": "log", "n": n}
        line |= {"level": chance.choice(LEVELS), "service": chance.choice(["api", "scoring", None])}
        line |= {"message": chance.choice(MESSAGES), "endpoint": chance.choice(["/predict", "/batch", None])}
        line["duration"] = chance.choice([None, round(chance.lognormvariate(-3, 1), 4)])
        line["error"] = chance.choice([None, None, None, False, True, "ValueError"])
        found.append({name: value for name, value in line.items() if value is not None})
    return found


def looked_at(**filters: str) -> View:
    ends = [("from", SINCE.isoformat()), ("to", UNTIL.isoformat())]
    return view([*ends, *filters.items()], ("level", "service", "endpoint", "q", "cursor"))


def seen(sent: Lines, **equal: str) -> Lines:
    """Return those of the lines that a view with these filters shows."""
    stretch = (SINCE.isoformat().replace("+00:00", "Z"), UNTIL.isoformat().replace("+00:00", "Z"))
    return [
        line
        for line in sent
        if stretch[0] <= line["@timestamp"] < stretch[1] and all(line.get(k) == v for k, v in equal.items())
    ]


def is_failed(line: Document) -> bool:
    return str(line.get("level")).upper() in ("ERROR", "CRITICAL") or line.get("error") not in (None, False)


def percentile(values: list[float], share: float) -> float:
    """Return it as it is defined: between the two values nearest to the place."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def by_day(sent: Lines) -> dict[str, Lines]:
    days = defaultdict(list)
    for line in sent:
        days[f"x-ml-pipeline-{line['@timestamp'][:10].replace('-', '.')}"].append(line)
    return days


@pytest.mark.parametrize(("unit", "milliseconds"), [("s", 1000), ("ms", 1)])
async def test_figures(tmp_path: Path, unit: str, milliseconds: float) -> None:
    """Lines, errors, success and duration of what is looked at, whatever unit the services log in."""
    sent = lines()
    elsewhere = {"x-ml-metrics-2026.11.21": [{**sent[0], "@timestamp": "2026-11-21T00:00:00Z", "type": "log"}]}
    async with asking(tmp_path, by_day(sent) | elsewhere) as ask:
        panels = logs.page(ask, "x-", unit).panels
        for filters in ({}, {"service": "api"}, {"level": "INFO", "endpoint": "/batch"}, {"level": "ERROR"}):
            found = await panels["figures"](looked_at(**filters))
            expected = seen(sent, **filters)
            failed = sum(map(is_failed, expected))
            assert failed > 0, "the test has something to count"
            assert (found["lines"], found["errors"]) == (len(expected), failed)
            assert found["success"] == pytest.approx(1 - failed / len(expected))
            durations = [line["duration"] for line in expected if "duration" in line]
            assert found["p95"] == pytest.approx(percentile(durations, 0.95) * milliseconds)


async def test_lines_over_time(tmp_path: Path) -> None:
    """Each level has its count in each stretch of time, and what has no level is shown, too."""
    sent = lines()
    async with asking(tmp_path, by_day(sent)) as ask:
        chart = (await logs.page(ask, "x-").panels["levels"](looked_at()))["curve"]
        expected: dict[str, Counter[int]] = defaultdict(Counter)
        for line in seen(sent):
            minute = datetime.fromisoformat(line["@timestamp"]).replace(second=0, microsecond=0)
            expected[line.get("level", "no level")][int(minute.timestamp() * 1000)] += 1
        assert len(chart["labels"]) == 60
        found = {
            each["name"]: {at: n for at, n in zip(chart["labels"], each["values"], strict=True) if n}
            for each in chart["series"]
        }
        assert found == {name: dict(counts) for name, counts in expected.items()}
        names = [each["name"] for each in chart["series"]]
        assert names == ["DEBUG", "INFO", "WARNING", "ERROR", "error", "CRITICAL", "no level"]


async def test_durations_over_time(tmp_path: Path) -> None:
    """Half, and 95 %, of the requests of each minute were faster."""
    sent = lines()
    async with asking(tmp_path, by_day(sent)) as ask:
        chart = (await logs.page(ask, "x-").panels["durations"](looked_at(endpoint="/predict")))["curve"]
        by_minute = defaultdict(list)
        for line in seen(sent, endpoint="/predict"):
            if "duration" in line:
                minute = datetime.fromisoformat(line["@timestamp"]).replace(second=0, microsecond=0)
                by_minute[int(minute.timestamp() * 1000)].append(line["duration"] * 1000)
        for series, share in zip(chart["series"], (0.5, 0.95), strict=True):
            found = {at: ms for at, ms in zip(chart["labels"], series["values"], strict=True) if ms is not None}
            assert found == {at: pytest.approx(percentile(each, share)) for at, each in by_minute.items()}


async def test_endpoints(tmp_path: Path) -> None:
    """Of each endpoint: its lines, how long they took, how many succeeded."""
    sent = lines()
    async with asking(tmp_path, by_day(sent)) as ask:
        rows = (await logs.page(ask, "x-").panels["endpoints"](looked_at()))["rows"]
        assert {row["endpoint"] for row in rows} == {"/predict", "/batch"}
        for row in rows:
            expected = seen(sent, endpoint=row["endpoint"])
            took = [line["duration"] * 1000 for line in expected if "duration" in line]
            assert row["count"] == len(expected)
            assert row["average"] == pytest.approx(fmean(took))
            assert row["p95"] == pytest.approx(percentile(took, 0.95))
            assert row["success"] == pytest.approx(1 - sum(map(is_failed, expected)) / len(expected))


async def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message of each service is counted, with the time of its last line, and its link finds those lines."""
    monkeypatch.setattr(logs, "NEWEST", 10)  # so that some are asked for singly
    sent = lines()
    kinds: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for line in seen(sent):
        if str(line.get("level")).upper() in ("ERROR", "CRITICAL"):
            kinds[line["level"], line["message"], line.get("service")].append(line["@timestamp"])
    async with asking(tmp_path, by_day(sent)) as ask:
        panels = logs.page(ask, "x-").panels
        found = await panels["errors"](looked_at())
        assert found["total"] == sum(map(len, kinds.values()))
        assert len(found["rows"]) == logs.ERRORS < len(kinds)
        counts = sorted(map(len, kinds.values()), reverse=True)
        assert [row["count"] for row in found["rows"]] == counts[: logs.ERRORS]
        for row in found["rows"]:
            times = kinds[row["level"], row["message"], row["service"]]
            assert (row["count"], row["last"]) == (len(times), max(times))
            parameters = dict(parse_qsl(urlsplit(row["address"]).query))
            again = await panels["lines"](
                view(list(parameters.items()), ("level", "service", "endpoint", "q", "cursor"))
            )
            same = [hit for hit in again["hits"] if hit["_source"]["message"] == row["message"]]
            assert max(hit["_source"]["@timestamp"] for hit in same) >= row["last"]


async def test_lines_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines that fit come once, newest first, and each page leads to the next."""
    monkeypatch.setattr(logs, "LINES", 7)
    sent = lines()
    async with asking(tmp_path, by_day(sent)) as ask:
        panels = logs.page(ask, "x-").panels
        numbers: list[int] = []
        cursor = ""
        while True:
            found = await panels["lines"](looked_at(service="scoring", q="TIME out", cursor=cursor))
            numbers += [hit["_source"]["n"] for hit in found["hits"]]
            cursor = found["older"]
            if not cursor:
                break
        expected = [line for line in seen(sent, service="scoring") if line["message"] == MESSAGES[1]]
        assert numbers == [line["n"] for line in sorted(expected, key=lambda line: line["@timestamp"], reverse=True)]
        assert len(numbers) > 2 * logs.LINES
        assert found["total"] == len(numbers)


async def test_nothing_there(tmp_path: Path) -> None:
    """Without a line no panel fails."""
    async with asking(tmp_path, {}) as ask:
        panels = logs.page(ask, "").panels
        found = [await panel(looked_at()) for panel in panels.values()]
        assert found[0]["lines"] == 0
        assert found[0]["success"] is None


async def test_too_many_words(tmp_path: Path) -> None:
    """A search that no store takes is refused in a sentence."""
    async with asking(tmp_path, {}) as ask:
        with pytest.raises(QueryError, match="words"):
            await logs.page(ask, "").panels["lines"](looked_at(q=" ".join(map(str, range(30)))))


def test_new_lines_are_followed_with_the_same_filters() -> None:
    """What is followed is what is looked at."""
    address = urlsplit(logs.tail("x-ml-pipeline-*", looked_at(level="ERROR", endpoint="/a&b:c", q="two words")))
    assert address.path == "/v1/tail"
    assert parse_qs(address.query) == {
        "index": ["x-ml-pipeline-*"],
        "where": ["level:ERROR", "endpoint:/a&b:c"],
        "q": ["two words"],
    }
