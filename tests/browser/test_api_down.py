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
    expect(page.get_by_role("tabpanel").get_by_label("User id")).to_be_visible()


def test_what_somebody_is_about_to_click_stays_when_the_service_is_back(page: Page, shop: Shop) -> None:
    shop.deployment.kill("serve")
    page.goto(shop.path("/inspector"))
    button = page.get_by_role("button", name="Try again")
    button.hover()
    unattended = page.context.new_page()
    unattended.goto(shop.path("/inspector"))
    shop.deployment.serve()
    expect(page.locator(".m-banner", has_text="The service does not answer")).to_be_hidden(timeout=30_000)
    expect(unattended.get_by_role("tabpanel").get_by_label("User id")).to_be_visible(timeout=30_000)
    button.click()
    expect(page.get_by_role("tabpanel").get_by_label("User id")).to_be_visible()


def test_the_banner_stays_under_a_pointer_and_says_that_the_service_is_back(page: Page, shop: Shop) -> None:
    page.goto(shop.path("/inspector"))
    shop.deployment.kill("serve")
    page.get_by_role("button", name="Try now").hover(timeout=30_000)
    shop.deployment.serve()
    expect(page.get_by_text("The service answers again.")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Try now").click()
    page.mouse.move(0, 0)
    expect(page.get_by_text("The service answers again.")).to_be_hidden()
