"""The first page in a real browser."""

from playwright.sync_api import expect

from tests.browser.conftest import Views
from tests.browser.view import Size
from tests.gateway_process import Gateway, GatewayFactory


def test_an_empty_gateway_says_how_to_begin(running: Gateway, view: Views, size: Size) -> None:
    """Without events the page has a line to paste, with this gateway's own address."""
    seen = view(running.url, size)
    seen.open()
    expect(seen.page.locator("#health")).to_have_text("All is well")
    expect(seen.page.locator(".answer").first).to_contain_text("Nothing came in yet.")
    line = seen.page.locator(".paste").last.inner_text()
    assert line.startswith('curl -d \'{"model_name"')
    assert line.endswith(f"{running.url}/v1/events")


def test_the_first_question_is_answered_and_goes_on(running: Gateway, view: Views) -> None:
    """The figures are those of the events sent, also of those that come while the page is open."""
    running.http.post("/v1/events", content=b'{"model_name":"m"}\n{"message":"hello","level":"INFO"}\nbroken')
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2)
    seen = view(running.url)
    seen.open()
    missing = seen.page.locator(".answer").first
    expect(missing).to_contain_text("Nothing is missing.")
    assert missing.locator(".books").inner_text() == "3 in · 2 stored · 1 refused · 0 missing"
    expect(missing.get_by_role("link")).to_have_text("1 refused event is kept as dead letters")
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    # Sooner than a panel is asked for again, which takes five seconds.
    expect(missing.locator("[data-live=stored]")).to_have_text("3", timeout=4000)
    missing.get_by_role("link").click()
    expect(seen.page).to_have_url(f"{running.url}/dead-letters")


def test_every_kind_leads_to_its_events(running: Gateway, view: Views, size: Size) -> None:
    """What has no page of its own is listed, with all its fields at a click."""
    running.http.post(
        "/v1/events", content=b'{"type":"audit","actor":"alice","action":"key.create"}\n{"model_name":"m"}'
    )
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2)
    seen = view(running.url, size)
    seen.open()
    seen.page.get_by_role("link", name="ml-audit").click()
    seen.filled()
    expect(seen.page).to_have_url(f"{running.url}/events?kind=ml-audit")
    rows = seen.page.locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("alice")
    rows.locator("summary").click()
    expect(rows.locator("pre")).to_contain_text('"action": "key.create"')
    assert seen.overflow() is None
    seen.page.get_by_role("combobox", name="Kind").select_option("")
    seen.filled()
    expect(rows).to_have_count(2)


def test_a_box_on_the_way_opens(running: Gateway, view: Views, size: Size) -> None:
    """Each step of the way of an event tells more when it is clicked, and stays open while the page is fresh."""
    running.http.post("/v1/events", content=b'{"model_name":"m"}\nbroken')
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 1)
    seen = view(running.url, size)
    seen.open()
    source = seen.page.locator("#source-http")
    source.locator("summary").click()
    expect(source.get_by_role("row", name="Received 2")).to_be_visible()
    expect(source.get_by_role("link")).to_have_attribute("href", "/dead-letters?source=http")
    seen.page.locator("#sink-embedded summary").click()
    expect(seen.page.locator("#sink-embedded").get_by_role("row", name="Stored 1")).to_be_visible()
    seen.overflow()


def test_trouble_is_told(gateway: GatewayFactory, view: Views) -> None:
    """With an Elasticsearch that is not there the page says which sink is in trouble and why."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    seen = view(running.url, expected={503})
    seen.open()
    health = seen.page.locator("#health")
    expect(health).to_have_text("Needs attention")
    assert "elasticsearch is retrying" in (health.get_attribute("title") or "")
    expect(seen.page.get_by_text("Nothing was stored lately. Waiting on disk to be stored: 1.")).to_have_count(2)
    seen.page.locator(".answer").first.get_by_role("link", name="What to do").click()
    seen.filled()
    told = seen.page.locator("section", has=seen.page.get_by_role("heading", name="Health"))
    expect(told).to_contain_text("gateway check --connect")
    expect(told).to_contain_text("1 in · 0 stored · 0 refused · 0 missing")
    indices = seen.page.locator("section", has=seen.page.get_by_role("heading", name="Indices"))
    expect(indices.get_by_role("alert")).to_contain_text("cannot be reached")
