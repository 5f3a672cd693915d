"""The browser of the tests sees what it should: faults, hosts, widths and what axe finds."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.browser import assert_accessible, assert_fits, browser, opened

__all__ = ["browser"]

PAGE = "<!doctype html><html lang=en><title>t</title><main><h1>Heading</h1>{}</main></html>"


def test_what_is_wrong_with_a_page_is_found(browser: Browser) -> None:
    with opened(browser, width=360, scheme="dark") as one:
        one.page.set_content(PAGE.format("<p>Fine</p>"))
        assert_accessible(one.page)
        assert_fits(one.page)
        assert one.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert one.faults == [] and one.hosts == set()
        one.page.set_content(PAGE.format("<img src='data:,'><p style='width:900px'>Wide</p>"))
        with pytest.raises(AssertionError, match="image-alt"):
            assert_accessible(one.page)
        with pytest.raises(AssertionError, match="wider than the window"):
            assert_fits(one.page)
        one.page.evaluate("setTimeout(() => { throw new Error('broken') })")
        one.page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
        one.page.wait_for_timeout(200)
        assert any("broken" in fault for fault in one.faults)
        assert one.hosts == {"127.0.0.1:9"}
