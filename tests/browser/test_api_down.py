"""The service goes away and comes back; the console says so, both times."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Shop

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def test_a_service_that_is_down_gives_the_banner_and_takes_it_away_when_it_is_back(page: Page, shop: Shop) -> None:
    banner = page.locator(".m-banner", has_text="The service does not answer")
    page.goto(shop.path("/placements"))
    expect(page.get_by_text("A valid placement.")).to_be_visible()
    expect(banner).to_be_hidden()
    shop.deployment.kill("serve")
    page.get_by_role("button", name="Try it out").click()
    expect(banner).to_be_visible()
    page.keyboard.press("Escape")
    page.goto(shop.path("/inspector"))
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    shop.deployment.serve()
    expect(banner).to_be_hidden(timeout=30_000)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("tabpanel").get_by_label("User id")).to_be_visible()
