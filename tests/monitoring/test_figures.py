"""Figures are what was counted, by minute for a while and for ever, whatever happens in between."""

import random
from typing import Any

import pytest

from gateway.monitoring.figures import BEFORE, Told
from gateway.settings import Monitoring
from gateway.summary import OTHER, Summary
from gateway.summary.figures import MAX_CLASSES
from tests.monitoring.telling import NOW, Disk, documents, gather, plain, prediction, told

MINUTE = 60.0
KEPT = 75


def test_by_minute_of_receipt_and_for_ever() -> None:
    """An hour and a quarter is kept by minute, what is older in one sum; all of it counts, also after a restart."""
    disk = Disk()
    for minute in range(200):
        disk.clock.now = NOW + minute * MINUTE + 5
        disk.take(told(disk.clock.now, prediction(), prediction("n")))
    for _ in range(2):
        assert disk.predictions() == {("m", "1"): 200, ("n", "1"): 200}
        kept = disk.figures.kept()
        assert kept.first == int(NOW) // 60 + 125
        assert kept.seen["model", "m", "1"] == [int(NOW) // 60 + at for at in range(125, 200)]
        assert kept.window.indices == {"ml-metrics": 30}
        line = kept.by_index(int(NOW) // 60 + 140)["ml-metrics"]
        assert line == {int(NOW) // 60 + at: 2 for at in range(140, 200)}
        disk.restart()
    assert len(disk.blobs) == KEPT + 1


@pytest.mark.parametrize(("secs", "minutes"), [(60, 1), (90, 2), (3600, 60)])
def test_the_window_is_as_long_as_it_is_set(secs: int, minutes: int) -> None:
    """In whole minutes; an hour beside it is kept."""
    disk = Disk(window_secs=secs)
    for minute in range(200):
        disk.clock.now = NOW + minute * MINUTE
        disk.take(told(disk.clock.now, prediction()))
    assert disk.figures.kept().window.indices == {"ml-metrics": minutes}
    assert len(disk.blobs) == 60 + minutes + 1


def test_a_record_that_comes_late_goes_into_its_own_minute() -> None:
    """Or into the sum where that is kept no more; one from the future, of a clock set back, into the present minute."""
    disk = Disk()
    disk.take(told(NOW, prediction()), told(NOW - 10 * MINUTE, prediction()), told(NOW - 80 * MINUTE, prediction()))
    disk.take(told(NOW + 1e6, prediction()))
    assert {minute for _, minute in disk.blobs} == {BEFORE, int(NOW) // 60 - 10, int(NOW) // 60}
    assert disk.predictions() == {("m", "1"): 4}
    assert disk.figures.kept().between(int(NOW) // 60).indices == {"ml-metrics": 2}


def test_a_clock_that_was_ahead() -> None:
    """What was received by it is counted, but is in no window before its time has come."""
    disk = Disk()
    disk.clock.now = NOW + 86_400
    disk.take(told(disk.clock.now, prediction("ahead")))
    disk.clock.now = NOW
    disk.take(told(NOW, prediction()))
    for _ in range(2):
        assert disk.predictions() == {("ahead", "1"): 1, ("m", "1"): 1}
        assert disk.figures.kept().window.models.keys() == {("m", "1")}
        disk.restart()


def test_nothing_counts_before_it_is_on_disk() -> None:
    """A transaction that fails leaves no trace; the next one counts the same once."""
    disk = Disk(max_models=1)
    disk.take(told(NOW, prediction()))
    before = plain(disk.figures.all())
    disk.clock.now += 80 * MINUTE
    for _ in range(3):
        disk.figures.change("0", [told(disk.clock.now, prediction("n", true_label="x"))])
    assert plain(disk.figures.all()) == before
    assert disk.figures.kept().seen == {}
    disk.take(told(disk.clock.now, prediction("n")))
    assert disk.predictions() == {(OTHER, ""): 1, ("n", "1"): 1}


def test_what_is_left_out_is_not_counted() -> None:
    """Documents that were there already, some of a record or all of it; its refused events count."""
    events = [prediction(prediction_class=str(n), true_label="1", prediction_confidence=n / 10) for n in range(10)]
    summary = gather(documents(events))
    summary.models["m", "1"].refused = 2
    disk = Disk()
    disk.take(Told(NOW, summary.encode(), documents(events[:7])))
    expected = gather(documents(events[7:]))
    expected.models["m", "1"].refused = 2
    assert plain(disk.figures.all()) == plain(expected)
    disk.take(Told(NOW, summary.encode(), documents(events), none=True))
    expected.models["m", "1"].refused = 4
    assert plain(disk.figures.all()) == plain(expected)
    disk.take(Told(NOW, None, added=documents(events[:7])))
    assert disk.predictions() == {("m", "1"): 10}
    disk.take(Told(NOW, None))
    assert disk.predictions() == {("m", "1"): 10}


def test_more_models_than_are_told_apart() -> None:
    """They are together under `other` and counted; whoever is in no kept minute any more makes room."""
    disk = Disk(max_models=2)
    disk.take(told(NOW, prediction("a"), prediction("b"), prediction("c", prediction_class="x", true_label="x")))
    assert disk.predictions() == {("a", "1"): 1, ("b", "1"): 1, (OTHER, ""): 1}
    assert disk.figures.all().models[OTHER, ""].outcomes == {OTHER: {None: 1}}
    assert disk.figures.beyond == 1
    disk.clock.now += 60 * MINUTE
    disk.take(told(disk.clock.now, prediction("b"), prediction("d")), folder="1")
    assert disk.predictions() == {("a", "1"): 1, ("b", "1"): 2, (OTHER, ""): 2}
    disk.clock.now += 16 * MINUTE  # now the minute of `a` is kept no more, that of `b` is
    disk.take(told(disk.clock.now, prediction("d"), prediction("e")), folder="1")
    for _ in range(2):
        assert disk.predictions() == {("b", "1"): 2, ("d", "1"): 1, (OTHER, ""): 4}
        disk.restart()


def test_fewer_are_told_apart_than_before() -> None:
    """After a start with a smaller limit those seen last have a name, the others are together: nothing is lost."""
    disk = Disk(max_models=3)
    for minute, name in enumerate("abc"):
        disk.clock.now = NOW + minute * MINUTE
        logs = [{"service": "s", "endpoint": f"/{name}", "duration": 0.2}]
        disk.take(
            told(disk.clock.now, prediction(name)),
            Told(disk.clock.now, gather(documents(logs, "ml-pipeline-2027.01.15")).encode()),
        )
    disk.settings = Monitoring(max_models=1)
    disk.restart()
    assert disk.predictions() == {("c", "1"): 1, (OTHER, ""): 2}
    assert {key: each.count for key, each in disk.figures.all().endpoints.items()} == {("s", "/c"): 1, (OTHER, ""): 2}


def test_endpoints_are_bounded_too() -> None:
    """The durations of those that are not told apart are together."""
    disk = Disk(max_models=2)
    logs = [{"service": "s", "endpoint": f"/{name}", "duration": 0.2} for name in "abcd"]
    disk.take(Told(NOW, gather(documents(logs, "ml-pipeline-2027.01.15")).encode()))
    counts = {key: each.count for key, each in disk.figures.all().endpoints.items()}
    assert counts == {("s", "/a"): 1, ("s", "/b"): 1, (OTHER, ""): 2}


@pytest.mark.parametrize("seed", range(8))
def test_sums_are_exact_and_never_fall(seed: int) -> None:
    """Over two folders, late records, duplicates, restarts, too many models and classes: what was sent is counted."""
    rnd = random.Random(seed)
    disk = Disk(max_models=4)
    sent: list[dict[str, Any]] = []
    before: dict[Any, int] = {}
    for _ in range(120):
        disk.clock.now += rnd.choice([1, 20, 70, 600, 6000])
        records = []
        for _ in range(rnd.randrange(1, 4)):
            events = [
                prediction(
                    f"m{rnd.randrange(3) if rnd.random() < 0.9 else rnd.randrange(40)}",
                    prediction_class=rnd.randrange(MAX_CLASSES + 20), true_label=rnd.choice(["1", None]),
                    prediction_confidence=rnd.random(), error=rnd.random() < 0.1, error_type="timeout",
                )
                for _ in range(rnd.randrange(1, 120))
            ]  # fmt: skip
            left_out = [each for each in events if rnd.random() < 0.2]
            sent += [each for each in events if each not in left_out]
            records.append(told(disk.clock.now - rnd.choice([0, 0, 100, 9000]), *events, left_out=left_out))
        disk.take(*records, folder=rnd.choice("01"))
        counters = _counters(disk.figures.all())
        assert all(count >= before.get(key, 0) for key, count in counters.items())
        before = counters
        if rnd.random() < 0.2:
            whole = plain(disk.figures.all())
            disk.restart()
            assert plain(disk.figures.all()) == whole
        kept, by_minute = disk.figures.kept(), Summary()
        for (_, minute), data in disk.blobs.items():
            if minute >= kept.first:
                by_minute.plus(Summary.decode(data))
        assert plain(kept.between(kept.first)) == plain(by_minute)
    figures = disk.figures.all()
    true = gather(documents(sent))
    assert figures.indices == true.indices == {"ml-metrics": len(sent)}
    assert sum(each.predictions for each in figures.models.values()) == len(sent)
    assert sum(each.errors.get("timeout", 0) for each in figures.models.values()) == sum(e["error"] for e in sent)
    assert sum(each.confidence.count for each in figures.models.values()) == len(sent)
    assert len(figures.models) <= 5
    for model in figures.models.values():
        assert all(count > 0 for row in model.outcomes.values() for count in row.values())
        assert sum(sum(row.values()) for row in model.outcomes.values()) == model.predictions
        assert len(model.outcomes) <= MAX_CLASSES + 1


def _counters(summary: Summary) -> dict[Any, int]:
    """Return what Prometheus sees rise; a model that made room is not there for a while, and then begins anew."""
    found: dict[Any, int] = {}
    for key, model in summary.models.items():
        found[key] = model.predictions
        found |= {(*key, name): sum(row.values()) for name, row in model.outcomes.items()}
    return found


def test_blobs_that_cannot_be_read() -> None:
    """They are told of and begin anew; the others count."""
    disk = Disk()
    disk.take(told(NOW, prediction()), told(NOW - MINUTE, prediction()))
    disk.blobs["0", int(NOW) // 60] = b"\xc1"
    disk.restart()
    assert disk.predictions() == {("m", "1"): 1}


def test_rates_are_of_the_seconds_of_receipt() -> None:
    """What is indexed late does not look like more events than came."""
    disk = Disk()
    disk.clock.now = NOW + 299
    disk.take(*(told(NOW + second, prediction(), prediction()) for second in range(300)))
    now, lines = disk.figures.rates()
    assert now == {"ml-metrics": 2.0}
    assert lines == {"ml-metrics": [2] * 300}
    disk.clock.now += 200
    now, lines = disk.figures.rates()
    assert now == {"ml-metrics": 0.0}
    assert lines == {"ml-metrics": [2] * 100 + [0] * 200}


def test_users_are_of_the_window() -> None:
    """Each counts once, however often and in whichever minutes it was there."""
    disk = Disk()
    for minute in range(40):
        disk.clock.now = NOW + minute * MINUTE
        disk.take(told(disk.clock.now, *(prediction(user_id=f"u{minute // 2 + n}") for n in range(10))))
    users = disk.figures.kept().window.users
    assert len(users) == len({minute // 2 + n for minute in range(25, 40) for n in range(10)})
    assert disk.figures.all().users == []
    assert Summary.decode(disk.blobs["0", int(NOW) // 60]).users
