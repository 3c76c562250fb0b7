"""The API's own page."""

from playwright.sync_api import expect

from tests.browser.chromium import ELSEWHERE
from tests.browser.conftest import Views
from tests.browser.view import Size
from tests.gateway_process import GatewayFactory


def test_the_api_is_described_without_the_internet(gateway: GatewayFactory, view: Views, size: Size) -> None:
    """Every operation can be opened, with nothing from elsewhere, also by a caller from another machine.

    That the window notes requests to elsewhere is held by its own tests.
    """
    running = gateway(env={"GATEWAY_HTTP__HOST": "0.0.0.0"})
    seen = view(running.url.replace("127.0.0.1", ELSEWHERE), size)
    seen.open("/docs")
    described = running.http.get("/openapi.json").json()["paths"]
    operations = {(method.upper(), path) for path, methods in described.items() for method in methods}
    shown = seen.page.locator(".opblock-summary")
    expect(shown).to_have_count(len(operations))
    methods, paths = (shown.locator(f".opblock-summary-{each}").all_inner_texts() for each in ("method", "path"))
    assert {(method, path.replace("\u200b", "")) for method, path in zip(methods, paths, strict=True)} == operations
    assert seen.page.title().startswith("ML log gateway")
    assert not [path for path in described if path.startswith(("/docs", "/console", "/openapi"))]
    assert running.http.get("/redoc").status_code == 404
    shown.first.click()
    expect(seen.page.locator(".opblock-body")).to_be_visible()
    seen.page.wait_for_load_state("networkidle")
