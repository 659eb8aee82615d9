"""A browser for tests: Debian's Chromium or any other on the path, which may reach nothing but the server under test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, Request

PHONE = {"viewport": {"width": 375, "height": 720}, "has_touch": True, "is_mobile": True}


def chromium() -> str:
    """The browser's program; without one the test is skipped, but not where the whole gate runs."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("CI"):
        pytest.fail("there is no Chromium: apt-get install --no-install-recommends chromium")
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


def launch(playwright: Playwright) -> Browser:
    """A browser without a window."""
    return playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])


class Tab:
    """A page, and whatever it did that it must not do."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        self._host = urlsplit(url).netloc
        page.on("request", self._check)
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _check(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self._host:
            self.complaints.append(f"an external request: {request.url}")

    def assert_clean(self, *, while_away: bool = False) -> None:
        """Nothing was asked of anybody else, and nothing went wrong; `while_away`: but for a server that was not there."""
        away = ("ERR_", "The server does not answer")
        found = [said for said in self.complaints if not (while_away and any(word in said for word in away))]
        assert found == [], found


@contextmanager
def tab(browser: Browser, server_url: str, address: str, **options: object) -> Iterator[Tab]:
    """A tab of a browser profile of its own, at this address."""
    context: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    opened = Tab(context.new_page(), server_url)
    opened.page.goto(address)
    try:
        yield opened
    finally:
        context.close()
