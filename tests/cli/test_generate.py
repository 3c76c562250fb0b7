import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from gateway.cli.generate import command
from gateway.cli.generate.run import Pace
from gateway.cli.traffic import Scenario, models
from gateway.cli.traffic.trained.traffic import DEGRADING
from schemas import BUILT_IN
from tests.cli.line_server import Server, run
from tests.documents import Document
from tests.gateway_process import ROOT

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.mark.process
def test_a_signal_at_any_moment_stops(server: Server) -> None:
    """A request to stop is heard whatever the sender is doing when the signal comes."""
    program = (
        "import signal\n"
        "from gateway.cli.generate.run import Stop\n"
        "signal.signal(signal.SIGALRM, lambda *_: stop.set())\n"
        "for _ in range(20_000):\n"
        "    stop = Stop()\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.00002)\n"
        "    while not stop.is_set():\n"
        "        stop.wait(0.00001)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=30)


def test_batch_sends_exactly_that_many(server: Server) -> None:
    """A batch of N is N lines of JSON, each with ids and a UTC timestamp, and the summary says so."""
    result = run("--batch", "1234", port=server.port)
    events = server.events()
    assert (result.exit_code, result.stderr) == (0, "")
    assert 1234 == len(events) == len({event["event_id"] for event in events})
    assert all(event["request_id"] and event["timestamp"].endswith("Z") for event in events)
    assert result.stdout.startswith("Sent 1,234 events in ")
    assert "model_inference" in result.stdout


def test_seed_repeats(server: Server) -> None:
    """The same seed sends the same ids again."""
    run("--batch", "50", "--seed", "4", port=server.port)
    second = Server()
    run("--batch", "50", "--seed", "4", port=second.port)
    second.close()
    assert [event["event_id"] for event in server.events()] == [event["event_id"] for event in second.events()]


def test_without_seed_no_repetition(server: Server) -> None:
    """Two runs without a seed share no event id, so that none is taken for a duplicate."""
    run("--batch", "50", port=server.port)
    second = Server()
    run("--batch", "50", port=second.port)
    second.close()
    ids = {event["event_id"] for event in server.events()}
    assert ids.isdisjoint(event["event_id"] for event in second.events())


@pytest.mark.parametrize(("rate", "duration"), [(40, 1.5), (5000, 1.0)])
@pytest.mark.waits
def test_rate_is_kept(server: Server, rate: int, duration: float) -> None:
    """A run has exactly rate times duration events, evenly over its time."""
    result = run("--continuous", "--rate", str(rate), "--duration", str(duration), port=server.port)
    assert result.exit_code == 0, result.stderr
    assert round(rate * duration) == len(server.events())
    half = server.times[len(server.times) // 2] - server.times[0]
    assert half == pytest.approx(duration / 2, abs=0.15)
    assert server.times[-1] - server.times[0] == pytest.approx(duration, abs=0.2)


def test_a_scenario_says_what_to_look_at(server: Server) -> None:
    """At the start, and in --help, stands what changes and in which fields; without a scenario, nothing."""
    result = run("--batch", "5", "--scenario", "degradation", port=server.port)
    (said,) = result.stderr.splitlines()
    assert said == f"Scenario degradation: {Scenario.DEGRADATION.shows}."
    assert " ".join(DEGRADING) in said
    assert f"{models.DEGRADING.name} {models.DEGRADING.versions[1]}" in said
    text = re.sub(r"[\s│]", "", run("--help").stdout)
    assert all("".join(each.shows.split()) in text for each in Scenario)
    table = Document(ROOT / "docs" / "operating.md").table("## Invented traffic")
    assert [f"`{each}`" for each in Scenario] == [name for name, *_ in table]


@pytest.mark.parametrize("scenario", Scenario)
def test_what_a_scenario_names_are_fields(scenario: Scenario) -> None:
    """Each field that the sentence about a scenario names is one of documents in the store."""
    named = set(re.findall(r"[a-z]+(?:_[a-z]+)+", scenario.shows)) - {"fraud_detector"}
    assert named <= {*BUILT_IN.columns("ml-metrics"), *BUILT_IN.columns("data-quality")}


def test_scenario_grows_over_a_batch(server: Server) -> None:
    """A scenario combined with a batch goes through its whole course within it."""
    run("--batch", "8000", "--scenario", "errors", "--seed", "1", port=server.port)
    events = [event for event in server.events() if event.get("type") == "model_inference"]
    first, last = (sum("error_message" in event for event in part) for part in (events[:1500], events[-1500:]))
    assert first < 150
    assert last > 300


@pytest.mark.waits
def test_scenario_alone_runs_at_its_own_rate(server: Server) -> None:
    """A scenario alone is a continuous run at a rate that fits it."""
    result = run("--scenario", "normal", "--duration", "0.5", port=server.port)
    assert result.exit_code == 0, result.stderr
    assert len(server.events()) == 25


def test_scenario_alone_takes_a_minute() -> None:
    """Without a duration, a scenario alone is planned for 60 seconds; with --continuous it has no end."""
    plan = command._plan(None, False, None, None, Scenario.DRIFT)
    assert (plan.duration_secs, plan.total) == (60.0, 3000)
    rising = command._plan(None, False, None, None, Scenario.HIGH_LOAD)
    assert (rising.duration_secs, rising.total) == (60.0, 31_500)
    endless = command._plan(None, True, None, None, Scenario.DRIFT)
    assert (endless.duration_secs, endless.total) == (None, None)


@pytest.mark.waits
def test_high_load_rises(server: Server) -> None:
    """Under high load the rate rises evenly from a twentieth: half-way in time a good quarter has been sent."""
    result = run("--scenario", "high_load", "--rate", "1000", "--duration", "2", port=server.port)
    assert result.exit_code == 0, result.stderr
    assert "Sending 50 to 1,000 events/s for 2 s" in result.stderr
    assert len(server.events()) == 1050
    first = server.times[0]
    quarters = [sum(start <= at - first < start + 0.5 for at in server.times) for start in (0.0, 0.5, 1.0, 1.5)]
    assert quarters == pytest.approx([84, 203, 322, 441], rel=0.25)


def test_pace_and_its_turning_around() -> None:
    """The moment of the nth event is the second at which n events are due, while it rises and after."""
    for pace in (Pace(50, 1000, 60), Pace(50, 50, 60), Pace(0.5, 10, 3)):
        for secs in (0.0, 1.0, 2.9, 30.0, 60.0, 100.0):
            assert pace.moment(pace.count(secs)) == pytest.approx(secs)
    assert Pace(50, 1000, 60).count(60) == 31_500
    assert Pace(50, 1000, 60).count(61) == 32_500


def test_verbose_prints_what_is_sent(server: Server) -> None:
    """With --verbose standard output holds every line sent, then the summary."""
    result = run("--batch", "20", "--verbose", port=server.port)
    assert result.stdout.startswith(server.data.decode())
    assert len(result.stdout.splitlines()) == 21


def test_ctrl_c_ends_cleanly(server: Server) -> None:
    """Ctrl-C ends an endless run with the summary and exit code 0, and cuts no line."""

    def interrupt() -> None:
        server.first.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    result = run("--continuous", "--rate", "2000", port=server.port)
    thread.join()
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"Sent {len(server.events()):,} events in ")
    assert len(result.stdout.splitlines()) == 1  # the gateway's page may end with it, as in `make demo`
    assert before is signal.getsignal(signal.SIGINT)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn, --from-sklearn is one sentence with the command that installs it, and exit code 1."""
    for name in [name for name in sys.modules if name.startswith("gateway.cli.traffic.trained")]:
        monkeypatch.delitem(sys.modules, name)
    blocked = {"sklearn", *(name for name in sys.modules if name.startswith("sklearn."))}
    for name in blocked:
        monkeypatch.setitem(sys.modules, name, None)
    result = run("--batch", "5", "--from-sklearn")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert f"`{sys.executable} -m pip install scikit-learn`" in result.stderr


@pytest.mark.parametrize("words", [("--batch", "300"), ("--scenario", "drift", "--rate", "300", "--duration", "1")])
@pytest.mark.waits
def test_from_sklearn(server: Server, words: tuple[str, ...]) -> None:
    """--from-sklearn goes with a batch and with a rate, sends real models' events, and prints them if asked."""
    result = run(*words, "--from-sklearn", "--seed", "3", "--verbose", port=server.port)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(server.data.decode())
    assert len(server.events()) == 300
    names = {event["model_name"] for event in server.events() if event.get("type") == "model_inference"}
    assert names == {"digits", "breast_cancer", "wine", "iris"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "--batch N, --continuous --rate R or --scenario NAME"),
        (("--rate", "5"), "--batch N"),
        (("--batch", "0"), "--batch must be a number above 0"),
        (("--batch", "-5"), "--batch must be a number above 0"),
        (("--continuous", "--rate", "0"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "nan"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "inf"), "--rate must be a number above 0"),
        (("--continuous", "--rate", "5", "--duration", "-1"), "--duration must be a number above 0"),
        (("--batch", "5", "--continuous"), "--batch sends at once"),
        (("--batch", "5", "--rate", "5"), "--batch sends at once"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], hint: str) -> None:
    """Wrong usage is one sentence on standard error and exit code 2; nothing is sent."""
    result = run(*words)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert hint in result.stderr


@pytest.mark.parametrize("words", [("--scenario", "chaos"), ("--batch", "many"), ("--batch", "1", "--port", "0")])
def test_unreadable_options(words: tuple[str, ...]) -> None:
    """What is no scenario, no number or no port is wrong usage too."""
    assert run(*words).exit_code == 2


def test_help_shows_examples() -> None:
    """The help shows lines to paste."""
    result = run("--help")
    assert result.exit_code == 0
    assert "gateway generate --batch 1000" in result.stdout
