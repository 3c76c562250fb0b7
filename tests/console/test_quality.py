"""The page Data quality shows what was sent: scores, drift, and what failed."""

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from gateway.console.pages import quality
from tests.console.panels import SINCE, UNTIL, Panels, lines_to_paste, open_panels

pytestmark = pytest.mark.anyio

DATASETS, COLUMNS, CHECKS = ("payments", "customers", None), ("amount", "country", None), ("range", "unique", None)


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Panels]:
    """The page over an empty store."""
    async with open_panels(tmp_path, quality.page) as panels:
        yield panels


def some(many: int) -> list[dict[str, Any]]:
    """Return checks of all sorts: some name no dataset, no column, no check, or do not say how they went."""
    random = Random(4)
    events = []
    for number in range(many):
        event = {
            "type": "data_quality",
            "timestamp": SINCE + number * 3600 / many,
            "dataset_name": random.choice(DATASETS),
            "column": random.choice(COLUMNS),
            "check_name": random.choice(CHECKS),
            "score": random.choice([None, round(random.random(), 3)]),
            "passed": random.choice([True, True, False, None]),
            "drift_score": random.choice([None, round(random.random(), 3)]),
            "row_count": random.choice([None, 0, 1000]),
            "missing_count": random.choice([None, random.randrange(1000)]),
        }
        events.append({name: value for name, value in event.items() if value is not None})
    return events


def having(events: list[dict[str, Any]], field: str) -> list[Any]:
    """Return the values of a field."""
    return [event[field] for event in events if field in event]


def groups(events: list[dict[str, Any]], *fields: str) -> dict[tuple[str | None, ...], list[dict[str, Any]]]:
    """Put events together by fields."""
    found = defaultdict(list)
    for event in events:
        found[tuple(event.get(field) for field in fields)].append(event)
    return found


def tiles(html: str) -> dict[tuple[str | None, str | None], tuple[str, str, str]]:
    """Return the shade, the score, and all else, by dataset and column."""
    found: dict[tuple[str | None, str | None], tuple[str, str, str]] = {}
    for row in html.split("<tr>")[1:]:
        head, body = row.split("</th>")
        name = re.search(r">([^<]*)</a>", head)
        for tile in re.findall(r"<li .*?</li>", body, re.DOTALL):
            shade, score = re.findall(r'class="heat-(\w+)">\s*<strong>(.*?)</strong>', tile)[0]
            column = re.search(r">([^<]*)</a>", tile)
            rest = " ".join(re.sub(r"<[^>]*>", " ", tile.split("<small>", 1)[1]).split())
            found[name and unescape(name[1]), column and unescape(column[1])] = shade, score, rest
    return found


@pytest.mark.parametrize("chosen", [{}, {"dataset": "payments"}, {"column": "amount", "check": "unique"}])
async def test_all_figures_are_those_of_the_events(page: Panels, chosen: dict[str, str]) -> None:
    """What neither passed nor failed counts as neither, and the filters leave out the rest."""
    sent = some(400)
    await page.send(*sent)
    events = [
        event for event in sent if all(event.get(quality.FIELDS[name]) == value for name, value in chosen.items())
    ]
    passed = Counter(event.get("passed") for event in events)

    figures = await page.figures(**chosen)
    assert figures == {
        "Checks": str(len(events)),
        "Failed": str(passed[False]),
        "Datasets": str(len(set(having(events, "dataset_name")))),
        "Lowest score": f"{min(having(events, 'score')):.3f}",
    }
    for name, field in quality.FIELDS.items():
        others = {other: value for other, value in chosen.items() if other != name}
        values = having(
            [e for e in sent if all(e.get(quality.FIELDS[key]) == value for key, value in others.items())], field
        )
        told = (await page.get("figures", **chosen)).split(f'data-values="{name}"')[1].split("</template>")[0]
        assert re.findall(r'value="(.*?)"', told) == sorted(set(values)), "what one can change to"
    assert f"{passed[None]} without result (no field passed)" in await page.get("figures", **chosen)

    expected = {}
    for (dataset, column), members in groups(events, "dataset_name", "column").items():
        each = Counter(event.get("passed") for event in members)
        score = fmean(having(members, "score"))
        shade = sum(score < bound for bound in (0.99, 0.95, 0.9, 0.8, 0.7, 0.5))
        last = datetime.fromtimestamp(max(having(members, "timestamp")), UTC).strftime("%Y-%m-%d %H:%M:%S")
        says = ((each[False], "failed"), (each[True], "passed"), (each[None], "without result"))
        said = ", ".join(f"{number} {word}" for number, word in says if number)
        expected[dataset, column] = str(shade), f"{score:.3f}", f"{said} last {last}"
    found = tiles(await page.get("scores", **chosen))
    assert {key: (shade, score, rest.replace(" ,", ",")) for key, (shade, score, rest) in found.items()} == expected

    rows = {row[0].split()[0]: row[1:] for row in await page.rows("checks", **chosen)}
    for (check,), members in groups(events, "check_name").items():
        each = Counter(event.get("passed") for event in members)
        judged = each[True] + each[False]
        assert rows.pop(check or "no") == [
            f"{100 * each[True] / judged:.1f} %",
            f"{each[False]} of {judged}",
            f"{fmean(having(members, 'score')):.3f}",
        ]
    assert not rows


async def test_failed_checks_are_listed(page: Panels) -> None:
    """The newest hundred, with what they measured, and how many there are."""
    events = some(800)
    await page.send(*events)
    failed = [event for event in events if event.get("passed") is False][::-1]

    def shown(event: dict[str, Any]) -> list[str]:
        rows, missing = event.get("row_count"), event.get("missing_count")
        return [
            datetime.fromtimestamp(event["timestamp"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
            *(event.get(field, "–") for field in ("dataset_name", "column", "check_name")),
            *(f"{event[field]:.3f}" if field in event else "–" for field in ("score", "drift_score")),
            f"{100 * missing / rows:.1f} %" if rows and missing is not None else "–",
        ]

    assert await page.rows("failed") == [shown(event) for event in failed[:100]]
    assert f"The newest 100 of {len(failed)}." in await page.get("failed")


@pytest.mark.parametrize(("panel", "field"), [("score", "score"), ("drift", "drift_score")])
async def test_scores_and_drift_over_time_are_averages(page: Panels, panel: str, field: str) -> None:
    """A point is the average of a dataset's checks in its stretch of time."""
    events = some(300)
    await page.send(*events)
    (chart,) = await page.charts(panel)
    secs = 60  # of an hour, cut into at most ninety
    stretch: Callable[[dict[str, Any]], float] = lambda event: event["timestamp"] // secs * secs * 1000  # noqa: E731
    expected: dict[str, dict[float, float]] = defaultdict(dict)
    for (dataset, at), members in groups([{**e, "at": stretch(e)} for e in events], "dataset_name", "at").items():
        if dataset is not None and having(members, field):
            expected[dataset][at] = fmean(having(members, field))  # type: ignore[index]
    shown = {
        each["name"]: {
            at: value for at, value in zip(chart["labels"], each["values"], strict=True) if value is not None
        }
        for each in chart["series"]
    }
    assert shown == {dataset: pytest.approx(points) for dataset, points in expected.items()}
    assert (chart["from"], chart["to"]) == (SINCE * 1000, UNTIL * 1000)


async def test_a_check_that_names_nothing_counts_too(page: Panels) -> None:
    """Neither dataset nor column, and not whether it passed: its score is in the average all the same."""
    await page.send(
        {"check_name": "range", "score": 0.25, "timestamp": UNTIL - 9},
        {"check_name": "range", "score": 0.75, "timestamp": UNTIL - 8},
        {"check_name": "range", "score": 0.9, "dataset_name": "payments", "timestamp": UNTIL - 7},
    )
    found = tiles(await page.get("scores"))
    assert found[None, None][:2] == ("5", "0.500")
    assert found["payments", None][:2] == ("2", "0.900")


async def test_names_stay_text(page: Panels) -> None:
    """What a sender calls a dataset is no part of the page."""
    name = "<img src=x onerror=alert(1)>&'\""
    await page.send({"dataset_name": name, "column": name, "check_name": name, "passed": False, "timestamp": UNTIL - 9})
    for panel in ("figures", "scores", "checks", "failed"):
        html = await page.get(panel)
        assert "<img" not in html
        assert name in unescape(html)
    assert list(tiles(await page.get("scores", dataset=name))) == [(name, name)]


async def test_a_megabyte_is_not_shown_whole(page: Panels) -> None:
    """A name that no column has room for is cut short in the list of failures, of which there may be a hundred."""
    names = dict.fromkeys(("dataset_name", "column", "check_name"), "long " * 60_000)
    await page.send(*({"timestamp": SINCE + at, **names, "passed": False} for at in range(3)))
    assert len(await page.get("failed")) < 10_000


async def test_nothing_failed_is_no_empty_page(page: Panels) -> None:
    """That all is well is said, and what failing means."""
    await page.send({"dataset_name": "payments", "score": 0.1, "timestamp": UNTIL - 9})
    assert "neither passed nor failed" in await page.get("failed")
    assert "fits the filters" in await page.get("failed", dataset="elsewhere")


@pytest.mark.parametrize("panel", ["scores", "checks", "score", "drift", "failed"])
async def test_an_empty_panel_says_how_to_fill_it(page: Panels, panel: str) -> None:
    """What it says to send is accepted, and then it is no longer empty."""
    (line,) = lines_to_paste(await page.get(panel))
    await page.send({"timestamp": UNTIL - 1, **line})
    full = await page.get(panel, **{"from": str(SINCE + 1)})
    assert not lines_to_paste(full)
    assert "payments" in full or "completeness" in full or panel == "failed"
