"""What the page of the models shows, from both stores, beside what Python makes of the events that were sent."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from gateway.console.asking import Asking
from gateway.console.pages import models
from gateway.console.view import View
from gateway.settings import Settings
from gateway.store.embedded import EmbeddedStore
from tests.contract.stores import Subject
from tests.pipeline.blocks import new_digest, store

pytestmark = pytest.mark.anyio

Event = dict[str, Any]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
SINCE, UNTIL = NOON - 3600 - 17, NOON - 8
"""So the first minute is seen for 17 s and the last one for 52 s."""
UNITS = {"/s": 1, "/min": 60, "/h": 3600, "/d": 86400}
FIELDS = {"model": "model_name", "version": "model_version", "environment": "environment", "region": "region"}
ENRICHMENT = {"models": {"digits": {"confidence": {"high": 0.9, "medium": 0.6}, "latency": {"fast": 20, "normal": 30}}}}
MODELS = ["fraud", "churn", "digits", "a", "b", "c", "d", "e"]
MESSAGES = {"timeout": "request timed out", "out_of_memory": "CUDA out of memory", "unknown": "strange"}


def sent() -> list[Event]:
    """Return predictions of an hour and around it, each without some of the fields; and other events."""
    chance = random.Random(5)

    def sometimes(share: float, **fields: Any) -> Event:
        return fields if chance.random() < share else {}

    events: list[Event] = []
    for _ in range(700):
        when = chance.uniform(SINCE - 300, min(UNTIL + 300, NOON))
        model = chance.choices(MODELS, [30, 20, 30, 5, 4, 3, 2, 1])[0]
        classes = range(15) if model == "digits" else [True, False] if model == "churn" else ["fraud", "legit"]
        predicted: Any = chance.choice(classes)
        true: Any = predicted if chance.random() < 0.7 else chance.choice(classes)
        if model == "digits" and chance.random() < 0.5:
            true = str(true)  # the same class, spelled as a string
        events.append(
            {
                "timestamp": datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds"),
                "model_name": model,
                **sometimes(0.8, model_version=chance.choice(["1", "2"])),
                **sometimes(0.9, environment=chance.choice(["production", "staging"])),
                **sometimes(0.9, region=chance.choice(["eu", "us"])),
                **sometimes(0.8, inference_time_ms=chance.choice([25, chance.lognormvariate(4, 1.3)])),
                **sometimes(0.8, prediction_confidence=chance.choice([1, 0.35, chance.random()])),
                **sometimes(0.9, prediction_class=predicted),
                **sometimes(0.6, true_label=true),
                **sometimes(0.5, cpu_usage=chance.uniform(0, 250)),
                **sometimes(0.5, memory_usage_mb=chance.uniform(100, 4000)),
                **sometimes(0.1, error_message=chance.choice([*MESSAGES.values()])),
                **sometimes(0.05, error=chance.random() < 0.5),
            }
        )
    return [*events, {"timestamp": NOON - 60, "message": "a log line", "level": "INFO", "service": "fraud"}]


def spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return a percentile, by linear interpolation between the two nearest values."""
    ranked = sorted(values)
    if not ranked:
        return None
    place = (len(ranked) - 1) * percent / 100
    low = int(place)
    return ranked[low] + (ranked[min(low + 1, len(ranked) - 1)] - ranked[low]) * (place - low)


def mean(values: Iterable[float]) -> float | None:
    there = [*values]
    return sum(there) / len(there) if there else None


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Return the shares from which what was seen is 1.96 standard deviations away, found by halving."""
    seen = correct / count

    def edge(outside: float, inside: float) -> float:
        for _ in range(100):
            middle = (outside + inside) / 2
            if (seen - middle) ** 2 <= 1.959963984540054**2 * middle * (1 - middle) / count:
                inside = middle
            else:
                outside = middle
        return inside

    return edge(0.0, seen), edge(1.0, seen)


def has(events: Iterable[Event], field: str) -> list[Any]:
    return [each[field] for each in events if field in each]


def labelled(events: Iterable[Event]) -> list[bool]:
    """Return of each event with a class and a label whether they are the same."""
    both = (each for each in events if "prediction_class" in each and "true_label" in each)
    return [spelled(each["prediction_class"]) == spelled(each["true_label"]) for each in both]


def errors(events: Iterable[Event]) -> list[Event]:
    return [each for each in events if each.get("error", "error_message" in each)]


class Shown:
    """The panels for one choice of filters, and the events that they are about."""

    def __init__(self, subject: Subject, events: list[Event], **filters: str) -> None:
        asking = Asking(lambda: subject.store)
        settings = Settings(enrichment=ENRICHMENT, events={"index_prefix": subject.prefix})
        self.panels = models.page(settings, asking).panels
        self.view = View(SINCE, UNTIL, None, {name: filters.get(name, "") for name in FIELDS})
        self.events = [
            each
            for each in events
            if "model_name" in each
            and SINCE <= datetime.fromisoformat(each["timestamp"]).timestamp() < UNTIL
            and all(each.get(FIELDS[name]) == value for name, value in filters.items())
        ]
        self.exact = isinstance(subject.store, EmbeddedStore)

    async def panel(self, name: str) -> dict[str, Any]:
        return await self.panels[name](self.view)

    def near(self, value: Any, *, percentile: bool = False) -> Any:
        """Return what an answer must be like; Elasticsearch approximates percentiles."""
        if value is None or isinstance(value, list):
            return None if value is None else [self.near(each, percentile=percentile) for each in value]
        return pytest.approx(value, rel=1e-6 if self.exact or not percentile else 0.0001, abs=1e-6)

    def minutes(self, field: str, of: Callable[[list[Any]], float | None]) -> list[float | None]:
        """Return a figure of a field's values in each minute, without the first of which but 17 s are seen."""
        found = []
        for minute in range(60):
            begin = NOON - 3600 + 60 * minute
            inside = [each for each in self.events if begin <= _secs(each) < begin + 60]
            found.append(of(has(inside, field)))
        return found


def _secs(event: Event) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


@pytest.fixture
async def events(subject_of: Subject) -> list[Event]:
    """The events, in the store as the gateway puts them there."""
    made = sent()
    digest = new_digest(enrichment=ENRICHMENT)
    groups: dict[str, dict[str, Any]] = {}
    for each in store(*made, digest=digest, now=NOON):
        groups.setdefault(each.index, {})[each.id] = each.document
    for index, documents in groups.items():
        await subject_of.add(index, documents)
    return made


CHOICES: list[dict[str, str]] = [
    {},
    {"model": "digits"},
    {"model": "churn", "version": "1", "environment": "production", "region": "eu"},
]


async def test_figures(subject_of: Subject, events: list[Event]) -> None:
    """Counts, latencies, confidence, accuracy and errors are those of the events that were chosen."""
    for chosen in CHOICES:
        shown = Shown(subject_of, events, **chosen)
        count = len(shown.events)
        assert count > 5
        figures = await shown.panel("figures")
        assert figures["count"] == count
        first = min(map(_secs, shown.events))
        secs = UNTIL - (SINCE if first < SINCE + 60 else first)
        assert figures["rate"] == pytest.approx(count / secs * UNITS[figures["unit"]], rel=0.02)
        assert figures["is_whole"] == (first < SINCE + 60)
        latencies = has(shown.events, "inference_time_ms")
        assert figures["average"] == shown.near(mean(latencies))
        for name, value in figures["percentiles"].items():
            assert value == shown.near(percentile(latencies, int(name[1:])), percentile=True)
        right = labelled(shown.events)
        assert figures["labelled"] == len(right)
        assert figures["errors"] == len(errors(shown.events))
        assert figures["models"] == len({each["model_name"] for each in shown.events})
        around = [each for each in events if "model_name" in each and SINCE <= _secs(each) < UNTIL]
        assert figures["choices"]["model"] == sorted(MODELS)
        of_model = [each for each in around if each["model_name"] == chosen.get("model", each["model_name"])]
        assert figures["choices"]["region"] == sorted({*has(of_model, "region")})

        confidences = has(shown.events, "prediction_confidence")
        gauge = await shown.panel("confidence")
        average = sum(confidences) / len(confidences)
        high, medium = (0.9, 0.6) if chosen.get("model") == "digits" else (0.85, 0.7)
        state = "good" if average >= high else "warn" if average >= medium else "bad"
        assert (gauge["average"], gauge["told"], gauge["state"]) == (shown.near(average), len(confidences), state)
        bars = (await shown.panel("histogram"))["chart"]["series"][0]["values"]
        bounds = [place * 5 / 100 for place in range(20)] + [1.01]
        assert bars == [sum(low <= each < up for each in confidences) for low, up in pairwise(bounds)]

        accuracy = await shown.panel("accuracy")
        assert (accuracy["labelled"], accuracy["share"]) == (len(right), shown.near(sum(right) / len(right)))
        assert accuracy["interval"] == shown.near(wilson(sum(right), len(right)))

        fast, normal = (20, 30) if chosen.get("model") == "digits" else (50, 200)
        buckets = await shown.panel("buckets")
        assert buckets["untimed"] == count - len(latencies)
        assert [each["name"] for each in buckets["rows"]] == ["fast", "normal", "slow", "very_slow"]
        if chosen:  # else the model with bounds of its own is among them
            rows = [0, fast, normal, 1000, float("inf")]
            expected = [sum(low <= each < up for each in latencies) for low, up in pairwise(rows)]
            assert [each["count"] for each in buckets["rows"]] == expected

        failures = await shown.panel("errors")
        assert failures["total"] == len(errors(shown.events))
        told = Counter(each.get("error_message", "") for each in errors(shown.events))
        told["strange"] += told.pop("", 0)  # an error without a message is of no known type
        assert {kind: number for kind, number, _, _ in failures["rows"]} == {
            kind: told[message] for kind, message in MESSAGES.items() if told[message]
        }
        for kind, _, examples, _ in failures["rows"]:
            assert [message for message, _ in examples] == [MESSAGES[kind]] * bool(examples)


@pytest.mark.parametrize("days", [1 / 24, 1, 30])
async def test_the_rate_is_that_since_the_first(subject_of: Subject, days: float) -> None:
    """A gateway that has had events for three minutes shows their rate in these, however long a time one looks at."""
    sent = [{"timestamp": NOON - 180 + secs, "model_name": "new"} for secs in range(0, 180, 2)]
    events = [{"timestamp": NOON - 40 * 86_400, "model_name": "old"}, *sent]
    for each in store(*events, digest=new_digest(), now=NOON):
        await subject_of.add(each.index, {each.id: each.document})
    shown = Shown(subject_of, [])
    shown.view = View(NOON - days * 86_400, NOON, None, shown.view.filters)
    figures = await shown.panel("figures")
    assert (figures["count"], figures["is_whole"]) == (90, False)
    assert figures["secs"] == pytest.approx(180, rel=0.03)
    assert figures["rate"] / UNITS[figures["unit"]] == pytest.approx(0.5, rel=0.03)


async def test_a_stretch_that_has_just_begun_is_no_collapse(subject_of: Subject) -> None:
    """The accuracy of a minute is drawn once half of it is stored, or at once where there is nothing else to draw."""
    labels = {"prediction_class": "a", "true_label": "a"}
    events = [{"timestamp": NOON - 120 + secs, "model_name": "m", **labels} for secs in range(130)]
    for each in store(*events, digest=new_digest(), now=NOON + 30):
        await subject_of.add(each.index, {each.id: each.document})

    async def accuracy(since: float, until: float) -> list[Any]:
        shown = Shown(subject_of, [])
        shown.view = View(since, until, None, shown.view.filters)
        assert shown.view.step_secs == 60
        for each in (chart := (await shown.panel("correctness"))["chart"])["series"]:
            assert [value is None for value in each["values"]] == [
                value is None for value in chart["series"][0]["values"]
            ]
        return list(chart["series"][0]["values"][-3:])

    assert await accuracy(NOON - 3600, NOON + 10) == [1, 1, None]
    assert await accuracy(NOON - 3600, NOON + 34) == [1, 1, 1]
    assert await accuracy(NOON - 3590, NOON - 110) == [None, None, 1]


async def test_over_time(subject_of: Subject, events: list[Event]) -> None:
    """Each minute has the figures of its events, and a gap where there are none."""
    for chosen in CHOICES[:2]:
        shown = Shown(subject_of, events, **chosen)
        latency = (await shown.panel("latency"))["chart"]
        assert latency["labels"] == [(NOON - 3600 + 60 * minute) * 1000 for minute in range(60)]
        average, *percentiles = latency["series"]
        assert average["values"] == shown.near(shown.minutes("inference_time_ms", mean))
        for series in percentiles:
            percent = int(series["name"][1:])
            expected = shown.minutes("inference_time_ms", lambda values, p=percent: percentile(values, p))  # type: ignore[misc]
            assert series["values"] == shown.near(expected, percentile=True)
        confidence = (await shown.panel("sureness"))["chart"]["series"][0]
        assert confidence["values"] == shown.near(shown.minutes("prediction_confidence", mean))
        (cpu,) = (await shown.panel("load"))["chart"]["series"]
        assert (cpu["name"], cpu["values"]) == (
            "CPU",
            shown.near([None if each is None else each / 100 for each in shown.minutes("cpu_usage", mean)]),
        )
        (memory,) = (await shown.panel("memory"))["chart"]["series"]
        assert memory["values"] == shown.near(shown.minutes("memory_usage_mb", mean))

        for minute, at_least, value, at_most in zip(
            range(60),
            *(each["values"] for each in _in_order((await shown.panel("correctness"))["chart"]["series"])),
            strict=True,
        ):
            begin = NOON - 3600 + 60 * minute
            right = labelled(each for each in shown.events if begin <= _secs(each) < begin + 60)
            assert value == shown.near(mean(right))
            assert (at_least, at_most) == (shown.near(wilson(sum(right), len(right))) if right else (None, None))

        predictions = (await shown.panel("predictions"))["chart"]
        per = UNITS[predictions["unit"]]
        sizes = Counter(each["model_name"] for each in shown.events)
        largest = [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:6]]
        names = [*largest, *(["other models"] if len(sizes) > 6 else [])]
        assert [each["name"] for each in predictions["series"]] == names
        for series in predictions["series"]:
            of = {series["name"]} if series["name"] in sizes else {*sizes} - {*largest}
            for minute, value in enumerate(series["values"]):
                begin = NOON - 3600 + 60 * minute
                many = sum(each["model_name"] in of and begin <= _secs(each) < begin + 60 for each in shown.events)
                secs = 52 if minute == 59 else 60
                assert value == shown.near(many / secs * per)


def _in_order(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = {each["name"]: each for each in series}
    return [named["95 % interval, lower end"], named["accuracy"], named["upper end"]]


async def test_matrix_share_and_table(subject_of: Subject, events: list[Event]) -> None:
    """Classes are counted as they are compared; shares and the table's rows are those of their events."""
    everything = Shown(subject_of, events)
    assert (await everything.panel("matrix"))["models"][0] == Counter(
        has(everything.events, "model_name")
    ).most_common()[0][0]
    share = (await everything.panel("share"))["chart"]
    sizes = sorted(Counter(has(everything.events, "model_name")).values(), reverse=True)
    assert share["series"][0]["values"] == [*sizes[:7], *([sum(sizes[7:])] if len(sizes) > 7 else [])]

    for model, many in (("digits", 15), ("churn", 2)):
        shown = Shown(subject_of, events, model=model)
        pairs = Counter(
            (spelled(each["prediction_class"]), spelled(each["true_label"]))
            for each in shown.events
            if "prediction_class" in each and "true_label" in each
        )
        matrix = (await shown.panel("matrix"))["matrix"]
        assert matrix.labelled == pairs.total()
        assert matrix.correct == sum(count for (one, other), count in pairs.items() if one == other)
        own = matrix.classes[: -1 if matrix.others else None]
        assert (len(own), matrix.others) == (min(many, 12), max(0, many - 12))
        size = Counter[str]()
        for pair, count in pairs.items():
            size.update({pair[0]: count})
            size.update({pair[1]: count})
        assert min(size[name] for name in own) >= max((size[name] for name in size if name not in own), default=0)
        place = {name: at for at, name in enumerate(own)}
        cells = [[0] * len(matrix.classes) for _ in matrix.classes]
        for (one, other), count in pairs.items():
            cells[place.get(one, len(own))][place.get(other, len(own))] += count
        assert matrix.cells == cells
        for name, precision, recall in zip(own, matrix.precision, matrix.recall, strict=False):
            assert precision == pytest.approx(mean(one == other for one, other in pairs.elements() if one == name))
            assert recall == pytest.approx(mean(one == other for one, other in pairs.elements() if other == name))

    table = await everything.panel("table")
    rows: dict[tuple[Any, ...], list[Event]] = {}
    for each in everything.events:
        rows.setdefault((each["model_name"], each.get("model_version"), each.get("environment")), []).append(each)
    assert {(row.model, row.version, row.environment): row.count for row in table["rows"]} == {
        key: len(group) for key, group in rows.items()
    }
    assert table["left_out"] == 0
    for row in table["rows"]:
        group = rows[row.model, row.version, row.environment]
        latencies, right = has(group, "inference_time_ms"), labelled(group)
        assert row.average_ms == everything.near(mean(latencies))
        assert row.p95_ms == everything.near(percentile(latencies, 95), percentile=True)
        assert row.confidence == everything.near(mean(has(group, "prediction_confidence")))
        assert (row.labelled, row.accuracy) == (len(right), everything.near(mean(right)))
        assert row.interval == (everything.near(wilson(sum(right), len(right))) if right else None)
        assert row.errors == len(errors(group))
