"""Debian's Chromium, driven by playwright; no browser is ever downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.programs import need

# How a caller on another machine would name a gateway: some scripts do less when the name is 127.0.0.1.
ELSEWHERE = "gateway.test"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    # Beyond this machine no name has an address, so that a page that asks there gets nothing, and does not wait for it.
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start one browser, end it with the block.

    While it runs this thread counts as one with a running event loop: no asynchronous test in the same module.
    """
    need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
