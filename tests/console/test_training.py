"""The page Training shows what was sent: runs, steps, metrics, errors."""

import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.console.pages import training
from gateway.console.pages.training import reading
from tests.console.panels import SINCE, UNTIL, Panels, lines_to_paste, open_panels

pytestmark = pytest.mark.anyio

STEPS = ("data_loading", "data_cleaning", "scaling", "feature_selection", "model_evaluation")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Panels]:
    """The page over an empty store."""
    async with open_panels(tmp_path, training.page) as panels:
        yield panels


def event(secs: float, name: str, run: str | None = None, **details: Any) -> dict[str, Any]:
    """Return a pipeline event, some seconds after the beginning of the hour looked at."""
    details |= {} if run is None else {"run_id": run}
    return {"timestamp": SINCE + secs, "event_type": name, "details": details, "source": "mlflow_pipeline"}


def report(secs: float, **fields: Any) -> dict[str, Any]:
    """Return a training report."""
    return {"timestamp": SINCE + secs, "type": "model_training", **fields}


async def test_runs_are_counted_by_how_they_stand(page: Panels) -> None:
    """A pipeline's own word decides, then its steps; of training jobs the last status."""
    await page.send(
        event(10, "mlflow_run_start", "done"),
        event(20, "scaling_start", "done"),
        event(30, "scaling_error", "done"),
        event(40, "scaling_start", "done"),
        event(50, "scaling_success", "done"),
        event(60, "mlflow_run_success", "done"),
        event(70, "mlflow_run_end", "done"),
        event(100, "mlflow_run_start", "broken"),
        event(110, "data_loading_error", "broken", error="no such table"),
        event(120, "mlflow_run_end", "broken"),
        event(200, "mlflow_run_start", "between two steps"),
        event(210, "scaling_success", "between two steps"),
        event(220, "scaling_start", "in a step"),
        report(300, run_id="trained", epoch=1, status="running"),
        report(310, run_id="trained", epoch=2, status="Completed"),
        report(320, run_id="killed", status="KILLED"),
        report(330, run_id="going on", status="epoch done"),
    )
    assert await page.figures() == {
        "Runs": "7",
        "Running": "3",
        "Failed": "2",
        "Finished": "2",
        "Pipeline events": "13",
        "Training reports": "4",
    }
    states = {row[0]: row[2] for row in await page.rows("runs")}
    assert states == {
        "going on": "running",
        "killed": "failed",
        "trained": "finished",
        "in a step": "running",
        "between two steps": "running",
        "broken": "failed",
        "done": "finished",
    }
    assert [row[0] for row in await page.rows("runs")] == list(states), "the newest comes first"


async def test_runs_without_an_id_go_by_their_order(page: Panels) -> None:
    """From mlflow_run_start to mlflow_run_end; where those are not told, until an event type comes again."""
    await page.send(
        *(event(at, name) for at, name in [(1, "scaling_start"), (2, "scaling_success")]),
        *(event(at, name) for at, name in [(11, "scaling_start"), (12, "scaling_error")]),
        *(event(at, name) for at, name in [(20, "mlflow_run_start"), (21, "scaling_start"), (22, "scaling_success")]),
        *(event(at, name) for at, name in [(23, "scaling_start"), (24, "scaling_success"), (25, "mlflow_run_end")]),
        {**event(22.5, "scaling_start"), "source": "another"},
        report(31, model_name="churn", epoch=1, metrics={"loss": 3}),
        report(32, model_name="churn", epoch=2, metrics={"loss": 2}),
        report(33, model_name="fraud", epoch=2, metrics={"loss": 9}),
        report(34, model_name="churn", epoch=1, metrics={"loss": 4}),
    )
    links = re.findall(r'<td class="key"><a href="(.*?)"', await page.get("runs"))
    keys = [parse_qs(urlsplit(unescape(link)).query)["run"][0] for link in links]
    rows = await page.rows("runs")
    found = {key: (row[2], row[5], row[6]) for key, row in zip(keys, rows, strict=True)}
    at = {
        secs: datetime.fromtimestamp(SINCE + secs, UTC).isoformat("T", "milliseconds")[:23] + "Z" for secs in range(40)
    }
    assert found == {
        f"churn {at[34]}": ("running", "0", "1"),
        f"fraud {at[33]}": ("running", "0", "1"),
        f"churn {at[31]}": ("running", "0", "2"),
        f"another {at[22].replace('.000Z', '.500Z')}": ("running", "1", "0"),
        f"mlflow_pipeline {at[20]}": ("finished", "6", "0"),
        f"mlflow_pipeline {at[11]}": ("failed", "2", "0"),
        f"mlflow_pipeline {at[1]}": ("finished", "2", "0"),
    }
    one = await page.figures(run=f"mlflow_pipeline {at[20]}")
    assert (one["Runs"], one["Pipeline events"]) == ("1", "6"), "a run without an id can be chosen too"


async def test_lanes_are_drawn_to_scale(page: Panels) -> None:
    """Steps lie from their beginning to their end, failures are marked, what goes on reaches until now."""
    await page.send(
        event(100, "scaling_start", "first"),
        event(200, "scaling_success", "first"),
        event(200, "data_loading_start", "first"),
        event(500, "data_loading_error", "first", error="no such table"),
        event(400, "cache_cleared", "first"),
        event(1000, "scaling_start", "second"),
        event(1120, "scaling_start", "second"),
        event(3480, "scaling_start", "third"),
    )
    html = await page.get("timeline")
    lanes = html.split("<li>")[1:]
    names = [unescape(re.findall(r'class="name" href="[^"]*">(.*?)<', lane)[0]) for lane in lanes]
    assert names == ["third", "second", "first"]

    def bars(lane: str) -> list[Any]:
        found = re.findall(
            r'<rect class="step-\d (\w+)" x="([\d.]+)" y="\d" width="([\d.]+)" height="\d+"><title>(.*?)<', lane
        )
        return [(text, outcome, float(x), float(width)) for outcome, x, width, text in found]

    def at(secs: float) -> Any:
        """The longest that ended took 400 s: the width stands for half as much again, and cuts off what runs."""
        return pytest.approx(1000 * secs / 600, abs=5)

    assert bars(lanes[2]) == [
        ("scaling done after 100.0 s", "success", at(0), at(100)),
        ("data_loading failed after 5 min", "error", at(100), at(300)),
        ("cache_cleared at 5 min", "word", at(300), pytest.approx(4)),
    ]
    assert bars(lanes[1]) == [
        ("scaling no end told", "lost", at(0), at(120)),
        ("scaling running for 41 min", "running", at(120), at(480)),
    ]
    assert bars(lanes[0]) == [("scaling running for 2 min", "running", at(0), at(120))]
    assert "failed in data_loading" in lanes[2]

    alone = (await page.get("timeline", run="first")).split("<li>")[1:]
    assert [re.findall(r'class="name">(.*?)<', lane)[0] for lane in alone] == [
        "scaling",
        "data_loading",
        "cache_cleared",
    ]


async def test_metrics_over_runs_are_the_last_of_each(page: Panels) -> None:
    """Of each run the last value, whoever told it; a series is a model, or who told of it."""
    random = Random(1)
    events: list[dict[str, Any]] = []
    expected: dict[str, list[tuple[float, float]]] = {"churn": [], "fraud": [], "mlflow_pipeline": []}
    for number in range(30):
        run, at = f"run-{number}", 100.0 * number
        first, last = random.random(), random.random()
        who = random.choice(list(expected))
        if who == "mlflow_pipeline":
            events.append(event(at, "model_evaluation_success", run, rmse=first))
            events.append(event(at + 9, "model_saving_success", run, metrics={"rmse": last, "r2": 1}, rmse_note="x"))
        else:
            events.append(report(at, run_id=run, model_name=who, epoch=1, metrics={"rmse": first, "zeal": 3}))
            events.append(report(at + 9, run_id=run, model_name=who, epoch=2, metrics={"rmse": last}))
        expected[who].append(((SINCE + at + 9) * 1000, last))
    random.shuffle(events)
    await page.send(*events)
    (chart,) = await page.charts("metrics")
    shown = {
        each["name"]: [
            (at, value) for at, value in zip(chart["labels"], each["values"], strict=True) if value is not None
        ]
        for each in chart["series"]
    }
    assert shown == {who: [pytest.approx(point) for point in points] for who, points in expected.items()}
    assert chart["names"] == [f"run-{number}" for number in range(30)]
    html = await page.get("metrics")
    assert re.findall(r"<option value=\"(.*?)\"", html) == ["rmse", "r2", "zeal"], (
        "what people look at first comes first"
    )
    (other,) = await page.charts("metrics", metric="zeal")
    assert sum(len([each for each in series["values"] if each]) for series in other["series"]) == len(
        expected["churn"] + expected["fraud"]
    )
    assert "No run here has a metric called" in await page.get("metrics", metric="nothing")


async def test_metrics_over_epochs_are_of_the_run_chosen(page: Panels) -> None:
    """Training and validation are in one chart; without a choice it is the newest run."""
    random = Random(2)
    sent = {
        run: [(epoch, random.random(), random.random(), random.random()) for epoch in range(1, 9)] for run in ("a", "b")
    }
    for start, (run, epochs) in enumerate(sent.items()):
        await page.send(
            *(
                report(1000 * start + each, run_id=run, epoch=each, metrics={"loss": x, "val_loss": y, "accuracy": z})
                for each, x, y, z in epochs
            ),
            report(1000 * start + 0.5, run_id=run, epoch=1, metrics={"loss": 99}),  # before the epoch's last report
        )
    for asked, run in (({"run": "a"}, "a"), ({}, "b")):
        charts = await page.charts("epochs", **asked)
        shown = {each["name"]: each["values"] for chart in charts for each in chart["series"]}
        _, loss, val_loss, accuracy = zip(*sent[run], strict=True)
        assert shown == {"loss": list(loss), "val_loss": list(val_loss), "accuracy": list(accuracy)}
        assert [[each["name"] for each in chart["series"]] for chart in charts] == [["accuracy"], ["loss", "val_loss"]]
        assert all(chart["labels"] == list(range(1, 9)) for chart in charts)


async def test_a_run_of_many_steps_has_as_many_points_as_can_be_told_apart(page: Panels) -> None:
    """What is told at each of thousands of steps, and now and then, is both there, up to the last."""
    often = {step: float(step) for step in range(3000)}
    await page.send(
        *(
            report(
                step / 1000, run_id="a", step=step, metrics={"loss": at} | ({"val_loss": at} if step % 100 == 0 else {})
            )
            for step, at in often.items()
        )
    )
    (chart,) = await page.charts("epochs")
    points = {
        each["name"]: [
            (at, value) for at, value in zip(chart["labels"], each["values"], strict=True) if value is not None
        ]
        for each in chart["series"]
    }
    assert len(points["loss"]) == 500
    assert points["loss"][-1] == (2999, 2999.0)
    assert set(points["loss"]) < set(often.items())
    assert points["val_loss"] == [(step, float(step)) for step in range(0, 3000, 100)]


async def test_steps_durations_and_events_are_counted(page: Panels) -> None:
    """A duration is the one told, else the time from the step's beginning to its end."""
    random = Random(3)
    events: list[dict[str, Any]] = []
    took: dict[str, list[float]] = {step: [] for step in STEPS}
    failed = Counter[str]()
    for number in range(40):
        at = 80.0 * number
        for step in STEPS:
            secs = round(random.uniform(0.5, 12), 3)
            outcome = random.choice(["success"] * 5 + ["error"])
            details = {"duration_ms": round(random.uniform(1, 9999), 1)} if random.random() < 0.5 else {}
            events.append(event(at, f"{step}_start", f"run-{number}"))
            events.append(event(at + secs, f"{step}_{outcome}", f"run-{number}", **details))
            took[step].append(details.get("duration_ms", secs * 1000))
            failed[step] += outcome == "error"
            at += secs
    await page.send(*events)

    values = re.findall(r'<td class="key name">(.*?)</td>|data-value="(.*?)"', await page.get("durations"))
    rows = [values[at : at + 6] for at in range(0, len(values), 6)]
    found = {unescape(row[0][0]): [float(value) for _, value in row[1:]] for row in rows}
    assert found == {
        step: pytest.approx([fmean(each), max(each), each[-1], len(each), failed[step]], rel=1e-3)
        for step, each in took.items()
    }
    assert list(found) == ["data_loading", "data_cleaning", "scaling", "model_evaluation", "feature_selection"]
    counts = {row[0]: int(row[1]) for row in await page.rows("events")}
    assert counts == Counter(each["event_type"] for each in events)

    name = "scaling_error"
    with_it = {each["details"]["run_id"] for each in events if each["event_type"] == name}
    assert (await page.figures(event=name))["Runs"] == str(len(with_it))
    assert {row[0] for row in await page.rows("runs", event=name)} == with_it


@pytest.mark.parametrize("duration_ms", [1e300, 1e14, -5e6])
async def test_a_duration_that_cannot_be_hides_no_run(page: Panels, duration_ms: float) -> None:
    """Details may hold anything: one event must not take the page from all others."""
    await page.send(event(60, "scaling_success", "run-1", duration_ms=duration_ms), event(90, "scaling_start", "run-2"))
    assert {row[0] for row in await page.rows("runs")} == {"run-1", "run-2"}
    assert (await page.rows("durations"))[0][1:4] == ["–", "–", "–"]
    for panel in ("timeline", "figures"):
        await page.get(panel)


async def test_errors_are_shown_with_the_whole_event(page: Panels) -> None:
    """Newest first, whoever told of them; an event's text stays text."""
    evil = "<script>alert('x')</script>"
    await page.send(
        event(10, "scaling_error", "a", error=evil),
        event(20, "scaling_success", "a", error="not an error"),
        report(30, run_id="b", status="failed", error_message="diverged", extra={"deep": [1, 2]}),
        event(40, "mlflow_run_error", "c"),
    )
    html = await page.get("errors")
    rows = [[row[1], row[2]] for row in await page.rows("errors")]
    assert rows == [["c", "mlflow_run"], ["b", "training"], ["a", "scaling"]]
    assert [unescape(each) for each in re.findall(r"<summary>(.*?)</summary>", html)] == [
        "no message",
        "diverged",
        evil,
    ]
    assert "<script" not in html
    assert '"deep"' in unescape(html)


async def test_a_megabyte_is_not_shown_whole(page: Panels) -> None:
    """Names and messages have their beginning, however long they are; the run is found by it."""
    long = "long " * 30_000
    sent = [event(at, f"{long}_error", long, error=long, model=long) for at in range(3)]
    await page.send(*sent, report(9, run_id=long, status=long, metrics={long: 1}))
    for panel in ("figures", "timeline", "metrics", "epochs", "runs", "events", "durations", "errors"):
        assert len(await page.get(panel)) < 100_000, panel
    address = re.findall('href="(.*?)"', await page.get("runs"))[0]
    ((run, *_),) = await page.rows("runs", run=parse_qs(urlsplit(unescape(address)).query)["run"][0])
    assert run == long[:500].strip()


async def test_a_model_leaves_the_runs_that_name_it(page: Panels) -> None:
    """Reports say it in model_name, pipelines in details.model_name."""
    await page.send(
        event(1, "mlflow_run_start", "a", model_name="churn"),
        event(2, "mlflow_run_end", "a"),
        report(3, run_id="b", model_name="fraud"),
        report(4, run_id="c", model_name="churn"),
        event(5, "scaling_start", "d"),
    )
    assert {row[0] for row in await page.rows("runs", model="churn")} == {"a", "c"}
    assert (await page.figures(model="churn"))["Pipeline events"] == "2"
    html = await page.get("figures", model="churn")
    assert re.findall(r'<option value="(.*?)"', html.split('data-values="model"')[1].split("</template>")[0]) == [
        "churn",
        "fraud",
    ]


async def test_what_is_too_much_is_said(page: Panels, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest events count, and how many are left out stands there."""
    monkeypatch.setattr(reading, "MOST_DOCUMENTS", 30)
    await page.send(*(event(at, "scaling_success", f"run-{at}") for at in range(100)))
    assert "in the newest 30 events" in await page.get("figures")
    html = " ".join((await page.get("runs")).split())
    assert "newest 30 events and reports of this time range; 70 older ones are left out" in html
    assert (await page.figures())["Pipeline events"] == "30"
    assert {row[0] for row in await page.rows("runs")} == {f"run-{at}" for at in range(70, 100)}
    assert (await page.figures(run="run-5"))["Runs"] == "1", "one run is read whole"


@pytest.mark.parametrize("panel", ["timeline", "metrics", "epochs", "runs", "events", "durations", "errors"])
async def test_an_empty_panel_says_how_to_fill_it(page: Panels, panel: str) -> None:
    """What it says to send is accepted, and then it is no longer empty."""
    (line,) = lines_to_paste(await page.get(panel))
    await page.send({"timestamp": UNTIL - 1, **line})
    await page.http.get("/")  # another moment
    full = await page.get(panel, **{"from": str(SINCE + 1)})
    assert 'class="nothing"' not in full
    assert "run-1" in full or panel in ("metrics", "durations", "events")
