"""The watch itself: what a page may never do is noticed, what is right is not."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.view import DESKTOP, PHONE, View

HEAD = """<!doctype html><html lang="en"><link rel="icon" href="data:,">
  <meta name="viewport" content="width=device-width">"""


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server for `tmp_path`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def shown(browser: Browser, site: str, tmp_path: Path, body: str, **options: object) -> View:
    (tmp_path / "page.html").write_text(HEAD + body, encoding="utf-8")
    seen = View(browser, site, **options)  # type: ignore[arg-type]
    seen.open("/page.html")
    seen.page.wait_for_load_state("networkidle")
    return seen


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>console.error('one')</script>", "console error: one"),
        ("<script>console.warn('two')</script>", "console warning: two"),
        ("<script>throw new Error('three')</script>", "uncaught: three"),
        ("<script>fetch('/missing').catch(() => 0)</script>", "404: GET http://127.0.0.1:"),
        ("<img alt='' src='http://example.com/four.png'>", "asked elsewhere: http://example.com/four.png"),
        ("<img alt='' src='http://127.0.0.1:1/five.png'>", "asked elsewhere: http://127.0.0.1:1/five.png"),
        ("<script>new WebSocket('ws://localhost:1/six')</script>", "asked elsewhere: http://localhost:1/six"),
        (
            "<meta http-equiv='content-security-policy' content=\"style-src 'self'\"><p style='color: red'>seven",
            "console error: Applying inline style violates",
        ),
    ],
    ids=["error", "warning", "uncaught", "missing", "outside", "other-port", "websocket", "policy"],
)
def test_faults_are_noticed(browser: Browser, site: str, tmp_path: Path, body: str, fault: str) -> None:
    """Each fault is told, with what it was."""
    seen = shown(browser, site, tmp_path, body)
    seen.close()
    assert [each for each in seen.faults if each.startswith(fault)], seen.faults


def test_what_is_right_is_no_fault(browser: Browser, site: str, tmp_path: Path) -> None:
    """A quiet page has no faults, nor has an answer that the test expects or a stream that the page closes."""
    body = """<p>hello<script>
      console.log('hello'); fetch('/missing');
      const given_up = new AbortController();
      fetch('/page.html', {signal: given_up.signal}).catch(() => 0); given_up.abort();
    </script>"""
    seen = shown(browser, site, tmp_path, body, expected={404})
    assert 0 < seen.first_paint_ms() < 10_000
    assert seen.layout_shift() == 0
    assert seen.overflow() is None
    seen.close()
    assert seen.faults == []


def test_what_moves_and_what_sticks_out_is_measured(browser: Browser, site: str, tmp_path: Path) -> None:
    """A block that pushes others down is a shift of its size; one that is too wide is named."""
    body = """<style>div { height: 300px; background: red } .wide { width: 400px }</style>
      <p id="moved" style="height: 300px">text</p><div class="wide"></div>
      <script>setTimeout(() => moved.before(document.createElement('div')), 200)</script>"""
    seen = shown(browser, site, tmp_path, body, size=PHONE)
    seen.page.wait_for_selector("div + p")
    assert seen.layout_shift() > 0.1
    assert (seen.overflow() or "").endswith("div.wide")
    seen.close()
    assert seen.faults == []


def test_the_keyboard_is_followed(browser: Browser, site: str, tmp_path: Path) -> None:
    """Tab goes from one to the next; a focus that nobody can see fails."""
    body = """<a href="#a" id="a">first</a> <button id="b">second</button>
      <a href="#c" style="outline: none">unmarked</a> <a href="#d" style="position: absolute; left: -999px">away</a>"""
    seen = shown(browser, site, tmp_path, body)
    assert seen.tab() == {"tag": "a", "id": "a", "text": "first"}
    assert seen.tab() == {"tag": "button", "id": "b", "text": "second"}
    for trouble in ("nothing marks the focus", "nobody sees it"):
        with pytest.raises(AssertionError, match=trouble):
            seen.tab()
    seen.close()


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
def test_the_scheme_and_the_size_reach_the_page(
    browser: Browser, site: str, tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    """Dark or light, and the width, are what the page's own rules see."""
    seen = shown(browser, site, tmp_path, "<p>", scheme=scheme, size=size)
    rules = f"(prefers-color-scheme: {scheme}) and (width: {size[0]}px) and (height: {size[1]}px)"
    assert seen.page.evaluate("rules => matchMedia(rules).matches", rules)
    assert seen.page.evaluate("[devicePixelRatio, navigator.maxTouchPoints > 0]") == [1, size == PHONE]
    seen.close()
