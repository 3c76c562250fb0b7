"""A page that is opened sooner than the store."""

import duckdb
from playwright.sync_api import expect

from tests.browser.conftest import Views
from tests.gateway_process import GatewayFactory

NOT_YET = "being opened"


def test_a_page_fills_itself_when_the_store_is_open(gateway: GatewayFactory, view: Views) -> None:
    """Until then its panels say so, without an error; then they come by themselves."""
    running = gateway(start=False)
    running.data_dir.mkdir(parents=True)
    with duckdb.connect(running.data_dir / "store.duckdb"):  # so that nobody else can open it
        running.start()
        running.wait_ready()
        running.http.post("/v1/events", content=b'{"model_name":"first_of_all"}')
        running.wait_until(lambda now: now["sinks"]["embedded"]["state"] == "retrying")
        seen = view(running.url)
        seen.open("/models")
        table = seen.page.locator("[data-panel*='/table']")
        expect(table).to_contain_text(NOT_YET)
    expect(table).to_contain_text("first_of_all")
    expect(seen.page.locator("main")).not_to_contain_text(NOT_YET)
