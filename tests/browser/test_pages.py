"""Every page opens without a complaint, on a desk, on a phone and in the dark; the login keeps strangers out."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from millirec.console import pages
from millirec.console.widgets.page_registry import PAGES
from millirec.console.widgets.page_registry import Page as ConsolePage
from tests.browser.conftest import DESKTOP, KEY, PHONE, Shop

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
pages.load()
QUESTIONS = {"/inspector": "?user=u2", "/placements": "?name=home"}
"""Inputs for the pages that ask for one."""


def overflow(page: Page) -> int:
    """Pixels that the page is wider than the window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return found


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.title)
def test_a_page_opens_without_a_complaint_on_a_desk_and_on_a_phone(
    page: Page, shop: Shop, screenshots: Path, one: ConsolePage
) -> None:
    name = one.path.strip("/") or "overview"
    for size, suffix in ((DESKTOP, ""), (PHONE, "-phone")):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.goto(shop.path(one.path + QUESTIONS.get(one.path, "")))
        expect(page.get_by_role("heading", name=one.title, level=1)).to_be_visible()
        expect(page.locator(".q-spinner")).to_have_count(0)
        page.wait_for_load_state("networkidle")
        assert overflow(page) <= 0
        page.screenshot(path=screenshots / f"{name}{suffix}.png", full_page=True)
    expect(page.get_by_text("This failed, and it is a bug")).to_have_count(0)


def test_an_item_is_inspected_in_the_dark(page: Page, shop: Shop, screenshots: Path) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(shop.path("/inspector?item=i3"))
    expect(page.get_by_text("Goes to the same people")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 23)"
    page.screenshot(path=screenshots / "inspector-dark.png", full_page=True)


def test_a_wrong_key_is_refused_and_no_page_is_shown(stranger: Page, shop: Shop) -> None:
    stranger.goto(shop.path("/versions"))
    expect(stranger.get_by_label("Admin key")).to_be_visible()
    stranger.get_by_label("Admin key").fill("w" * 32)
    stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("alert")).to_contain_text("does not know this key")
    stranger.goto(shop.path("/placements"))
    expect(stranger.get_by_label("Admin key")).to_be_visible()
    stranger.get_by_label("Admin key").fill(KEY)
    stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("heading", name="Placements", level=1)).to_be_visible()
    # Whatever the page still loads is refused once its session has ended.
    expect(stranger.get_by_text("A valid placement.")).to_be_visible()
    stranger.wait_for_load_state("networkidle")
    stranger.get_by_role("button", name="Log out").click()
    expect(stranger.get_by_label("Admin key")).to_be_visible()


def test_the_keyboard_leads_everywhere(page: Page, shop: Shop) -> None:
    page.goto(shop.path("/data"))
    expect(page.get_by_role("heading", name="Data quality", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("i")
    field = page.get_by_role("tabpanel").get_by_label("User id")
    expect(field).to_be_focused()
    page.keyboard.type("u2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("User u2")).to_be_visible()
    expect(page.get_by_text("Item ").first).to_be_visible()
    page.keyboard.press("Escape")
    field.evaluate("field => field.blur()")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Inspector")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    link = page.get_by_role("link", name="Dead letters")
    for _ in range(80):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dead letters", level=1)).to_be_visible()
