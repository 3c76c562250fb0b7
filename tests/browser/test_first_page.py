"""The first page in a real browser."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Views
from tests.browser.view import Size
from tests.end_to_end.test_own_schemas import settings
from tests.gateway_process import GatewayFactory


def test_an_empty_gateway_says_how_to_begin(gateway: GatewayFactory, view: Views, size: Size) -> None:
    """Without events the page has a line to paste, with this gateway's own address."""
    running = gateway()
    seen = view(running.url, size)
    seen.open()
    expect(seen.page.locator("#state")).to_have_text("All is well")
    line = seen.page.locator("#paste").inner_text()
    assert line.startswith('curl -d \'{"model_name"')
    assert line.endswith(f"{running.url}/v1/events")
    assert seen.overflow() is None
    assert seen.first_paint_ms() < 1000


def test_every_index_can_be_chosen(gateway: GatewayFactory, view: Views, tmp_path: Path) -> None:
    """The list holds this gateway's indices, each once: with its prefix, with kinds of one's own."""
    running = gateway(config=settings(tmp_path, events={"index_prefix": "team-a-"}))
    seen = view(running.url)
    seen.open()
    options = seen.page.locator("#index option")
    expect(options.nth(1)).to_be_attached()
    values = options.evaluate_all("all => all.map(each => each.value)")
    assert values[0] == "*"
    assert {"team-a-ml-metrics-*", "team-a-ml-sensors-*"} < set(values)
    told = {kind["index"] for kind in running.http.get("/v1/schemas").json()["schemas"]}
    assert sorted(values[1:]) == sorted(told)


def test_events_and_counts_are_shown(gateway: GatewayFactory, view: Views, size: Size) -> None:
    """Latest events and counts are there, and what an event says is text, never markup.

    Where the list of indices cannot be had all of them are shown.
    """
    running = gateway()
    running.http.post(
        "/v1/events",
        content=b'{"model_name":"<script>alert(1)</script>","prediction_confidence":0.93,"inference_time_ms":25}\n'
        b'{"message":"hello from a log","level":"INFO"}\nbroken',
    )
    running.wait_until(
        lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2 and now["books"]["dead_letters"] == 1
    )
    seen = view(running.url, size, expected={500})
    seen.page.route("**/v1/schemas", lambda route: route.fulfill(status=500))
    seen.open()
    events = seen.page.locator("#events")
    expect(events).to_contain_text("hello from a log")
    expect(events).to_contain_text("confidence 0.93 · high · 25 ms · fast")
    expect(events.get_by_role("cell", name="<script>alert(1)</script>", exact=True)).to_be_visible()
    names, values = (seen.page.locator(f"#counts {each}").all_inner_texts() for each in ("dt", "dd"))
    shown = dict(zip(names, values, strict=True))
    assert (shown["Received"], shown["Stored"], shown["Refused"], shown["Missing"]) == ("3", "2", "1", "0")
    assert seen.page.locator("#index option").all_inner_texts() == ["all"]
    assert seen.overflow() is None


def test_trouble_is_told(gateway: GatewayFactory, view: Views) -> None:
    """With an Elasticsearch that is not there the page says which sink is in trouble and why."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    seen = view(running.url, expected={503})
    seen.open()
    expect(seen.page.locator("#state")).to_have_text("Needs a look")
    expect(seen.page.locator("#trouble")).to_contain_text("elasticsearch is retrying")
