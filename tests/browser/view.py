"""A window of the browser on one gateway, which notes all that is wrong with what it shows."""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, WebError, WebSocket, expect

Scheme = Literal["light", "dark"]


class Size(NamedTuple):
    """A window's size in CSS pixels."""

    width: int
    height: int


WAIT_MS = 15_000
DESKTOP, PHONE = Size(1280, 800), Size(360, 740)

_PAINTED = """() => new Promise(resolve => new PerformanceObserver(list => {
  for (const entry of list.getEntriesByName('first-contentful-paint')) resolve(entry.startTime);
}).observe({type: 'paint', buffered: true}))"""

# What moves after a person's own click or key is no jump.
_SHIFTED = """() => new Promise(resolve => {
  let sum = 0;
  const add = list => { for (const entry of list) if (!entry.hadRecentInput) sum += entry.value; };
  const observer = new PerformanceObserver(list => add(list.getEntries()));
  observer.observe({type: 'layout-shift', buffered: true});
  setTimeout(() => { add(observer.takeRecords()); resolve(sum); }, 100);
})"""

# What stands out to the right, with its place in the document, so that it is found.
_OVERFLOW = """() => {
  const root = document.documentElement, wide = root.clientWidth;
  if (root.scrollWidth <= wide) return null;
  const place = each => each.tagName.toLowerCase() + (each.id ? '#' + each.id : '') +
    [...each.classList].map(name => '.' + name).join('');
  const out = [...document.body.querySelectorAll('*')].filter(each => each.getBoundingClientRect().right > wide + 1);
  return `${root.scrollWidth} > ${wide}: ${out.slice(0, 5).map(place).join(', ')}`;
}"""

_FOCUSED = """() => {
  const it = document.activeElement;
  if (!it || it === document.body) return null;
  const box = it.getBoundingClientRect(), style = getComputedStyle(it);
  const root = document.documentElement;
  const middle = (from, to, end) => (Math.max(from, 0) + Math.min(to, end)) / 2;  // of what is in the window
  const over = document.elementFromPoint(
    middle(box.left, box.right, root.clientWidth), middle(box.top, box.bottom, root.clientHeight));
  return {
    tag: it.tagName.toLowerCase(), id: it.id, text: (it.innerText || it.value || '').trim(),
    shown: box.width > 0 && box.height > 0 && over !== null && (it.contains(over) || over.contains(it)),
    marked: style.outlineStyle !== 'none' && style.outlineWidth !== '0px' || style.boxShadow !== 'none',
  };
}"""


class View:
    """A window on the gateway at ``address`` (``http://127.0.0.1:PORT``).

    ``faults`` has a line for everything that a page may never do: an error or a warning on the console, an
    uncaught exception, an answer of 400 and above that is not in ``expected``, a request that fails or that
    leaves this gateway. ``page`` is playwright's own.
    """

    def __init__(
        self,
        browser: Browser,
        address: str,
        size: Size = DESKTOP,
        *,
        scheme: Scheme = "light",
        expected: Collection[int] = (),
        zone: str = "UTC",
    ) -> None:
        self.address = address
        self.faults: list[str] = []
        self._expected = expected
        self._context = browser.new_context(
            viewport={"width": size.width, "height": size.height},
            device_scale_factor=1,
            has_touch=size == PHONE,
            color_scheme=scheme,
            locale="en-GB",
            timezone_id=zone,
        )
        self._context.set_default_timeout(WAIT_MS)
        self._context.on("console", self._said)
        self._context.on("weberror", self._threw)
        self._context.on("request", self._asked)
        self._context.on("response", self._answered)
        self._context.on("requestfailed", self._failed)
        self.page: Page = self._context.new_page()
        self.page.on("websocket", self._connected)

    def open(self, path: str = "/") -> None:
        """Load a page of the gateway; return when it is `filled`."""
        self.page.goto(self.address + path)
        self.filled()

    def filled(self) -> None:
        """Return when every panel of the page has its content and what is live has come once."""
        empty = self.page.locator("[data-panel]:empty, [data-panel][aria-busy], #health:text('Connecting')")
        expect(empty).to_have_count(0, timeout=WAIT_MS)

    def first_paint_ms(self) -> float:
        """Return after how many milliseconds the loaded page showed its first text or image."""
        return float(self.page.evaluate(_PAINTED))

    def layout_shift(self) -> float:
        """Return the sum of the layout shifts up to now: 0 is none, from 0.1 on it disturbs."""
        return float(self.page.evaluate(_SHIFTED))

    def overflow(self) -> str | None:
        """Return what makes the document wider than the window; None when all of it fits."""
        out: str | None = self.page.evaluate(_OVERFLOW)
        return out

    def tab(self) -> dict[str, Any] | None:
        """Press Tab; return `tag`, `id` and `text` of what has the focus, None past the last.

        AssertionError when a person would not see where the focus is.
        """
        self.page.keyboard.press("Tab")
        focused: dict[str, Any] | None = self.page.evaluate(_FOCUSED)
        assert focused is None or focused.pop("shown"), f"the focus is where nobody sees it: {focused}"
        assert focused is None or focused.pop("marked"), f"nothing marks the focus: {focused}"
        return focused

    def close(self) -> None:
        """Close the window."""
        self._context.close()

    def _said(self, message: ConsoleMessage) -> None:
        # A failed request is told with its address by `_answered` and `_failed`.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console {message.type}: {message.text} ({message.location})")

    def _threw(self, error: WebError) -> None:
        self.faults.append(f"uncaught: {error.error}")

    def _asked(self, request: Request) -> None:
        self._check(request.url)

    def _connected(self, socket: WebSocket) -> None:
        self._check(socket.url.replace("ws", "http", 1))

    def _check(self, url: str) -> None:
        if not url.startswith((self.address + "/", "data:", "blob:" + self.address)):
            self.faults.append(f"asked elsewhere: {url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self.faults.append(f"{response.status}: {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        # Aborted is what the page itself gave up: it was left, or closed a stream.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.failure}: {request.method} {request.url}")
