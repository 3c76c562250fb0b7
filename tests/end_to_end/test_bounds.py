"""What one caller may ask for is bounded, so that it cannot hold up the others."""

import time

import pytest

from gateway.store.conditions import matches
from tests.gateway_process import GatewayFactory


def test_a_body_of_too_many_events_is_refused(gateway: GatewayFactory) -> None:
    """Millions of tiny lines within the size limit are one 413; nothing of them is taken."""
    running = gateway()
    answer = running.http.post("/v1/events", content=b"{}\n" * 300_000)
    assert answer.status_code == 413
    assert "200000" in answer.text
    assert running.status()["books"]["received"] == 0


def test_an_array_of_too_many_events_is_one_refusal(gateway: GatewayFactory) -> None:
    """An array on a line has a bound too, on every source; its neighbour is stored."""
    running = gateway()
    line = b"[" + b",".join([b"{}"] * 30_000) + b"]\n"
    running.send_tcp(line + b'{"model_name":"m"}\n')
    status = running.wait_until(lambda now: now["books"]["dead_letters"] == 1)
    assert (status["books"]["accepted"], status["books"]["refused"]) == (1, 1)


def test_a_tenants_name_is_short(gateway: GatewayFactory) -> None:
    """A name that would be written into every document may not be long."""
    running = gateway()
    answer = running.http.post("/v1/events", content=b'{"model_name":"m"}', headers={"x-scope-orgid": "x" * 200})
    assert answer.status_code == 400
    assert "X-Scope-OrgID" in answer.text


@pytest.mark.parametrize("depth", [100, 240, 244, 246, 248, 250, 252, 260])
def test_what_is_stored_can_be_shown(gateway: GatewayFactory, depth: int) -> None:
    """However deep an event is, it is either refused or found again."""
    running = gateway()
    event = b'{"model_name":"m","x":' + b'{"y":' * depth + b"1" + b"}" * depth + b"}"
    answer = running.http.post("/v1/events", content=event)
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 1)
        assert running.http.get("/v1/search").json()["total"] == 1
    else:
        assert answer.json()["errors"][0]["rule"] == "too_deep"


@pytest.mark.parametrize(
    ("patterns", "index", "expected"),
    [
        (["*"], "ml-metrics-2026.01.01", True),
        (["ml-metrics-*"], "ml-metrics-2026.01.01", True),
        (["ml-*-2026.*"], "ml-metrics-2026.01.01", True),
        (["*-2026.01.01"], "ml-metrics-2026.01.01", True),
        (["ml-metrics-2026.01.01"], "ml-metrics-2026.01.01", True),
        (["ml-labels-*", "ml-m*"], "ml-metrics-2026.01.01", True),
        (["ml-metrics"], "ml-metrics-2026.01.01", False),
        (["ml*ml"], "ml", False),
        (["a*b*b"], "ab", False),
        (["*" * 200 + "x"], "ml-metrics-2026.01.01", False),
    ],
)
def test_index_patterns(patterns: list[str], index: str, expected: bool) -> None:
    """A star stands for anything, also nothing, and many stars cost no time."""
    started = time.monotonic()
    assert matches(patterns, index) is expected
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "query", ["limit=" + "9" * 5000, "limit=0", "limit=-1", "cursor=x", "from=never", "where=x", "size=1"]
)
def test_wrong_questions_get_400(gateway: GatewayFactory, query: str) -> None:
    """A wrong parameter of /v1/search is answered with 400 and one sentence."""
    running = gateway()
    running.wait_until(lambda now: bool(now["sinks"]))
    answer = running.http.get(f"/v1/search?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(".")
