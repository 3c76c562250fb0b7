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
    line = seen.page.locator(".paste").inner_text()
    assert line.startswith('curl -d \'{"model_name"')
    assert line.endswith(f"{running.url}/v1/events")


def test_the_books_are_shown_and_go_on(running: Gateway, view: Views) -> None:
    """The figures are those of the events sent, also of those that come while the page is open."""
    running.http.post("/v1/events", content=b'{"model_name":"m"}\n{"message":"hello","level":"INFO"}\nbroken')
    running.wait_until(lambda now: now["books"]["sinks"]["embedded"]["indexed"] == 2)
    seen = view(running.url)
    seen.open()

    def figures() -> dict[str, str]:
        names, values = (seen.page.locator(f".figure {each}").all_inner_texts() for each in ("dt", "dd:first-of-type"))
        return dict(zip(names, values, strict=True))

    first = figures()
    assert {name: first[name] for name in ("In", "Stored", "Refused", "Missing")} == {
        "In": "3", "Stored": "2", "Refused": "1", "Missing": "0",
    }  # fmt: skip
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    # Sooner than a panel is asked for again, which takes five seconds.
    expect(seen.page.locator(".figure", has_text="Stored").locator("dd").first).to_have_text("3", timeout=4000)


def test_trouble_is_told(gateway: GatewayFactory, view: Views) -> None:
    """With an Elasticsearch that is not there the page says which sink is in trouble and why."""
    running = gateway(env={"ELASTICSEARCH_URL": "http://127.0.0.1:1"})
    running.http.post("/v1/events", content=b'{"model_name":"m"}')
    running.wait_until(lambda now: now["sinks"]["elasticsearch"]["state"] == "retrying")
    seen = view(running.url, expected={503})
    seen.open()
    health = seen.page.locator("#health")
    expect(health).to_have_text("Needs a look")
    assert "elasticsearch is retrying" in (health.get_attribute("title") or "")
