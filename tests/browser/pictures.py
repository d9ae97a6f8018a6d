"""The pictures of the README, of a demo with traffic: `python -m tests.browser.pictures URL KEY FOLDER`."""

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

CUSTOMER = "17850"
WINDOW = {"width": 1280, "height": 800}


def take(page: Page, url: str, key: str, folder: Path) -> None:
    """Overview, and one customer answered by two versions with the reasons of the second item open."""
    page.goto(f"{url}/login")
    page.get_by_label("Admin key").fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview", level=1).wait_for()
    page.locator(".q-spinner").wait_for(state="detached")
    page.wait_for_timeout(6_000)  # the charts draw themselves
    _keep(page, folder / "overview.png")
    page.goto(f"{url}/inspector?user={CUSTOMER}")
    panel = page.get_by_role("tabpanel")
    panel.get_by_label("Compare with").click()
    page.get_by_role("option").nth(1).click()
    panel.get_by_text("of the items are in both").wait_for()
    panel.locator(".q-expansion-item").nth(1).click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)
    _keep(page, folder / "inspector.png")


def _keep(page: Page, path: Path) -> None:
    """In 256 colours, which a page hardly exceeds, for a third of the bytes."""
    with Image.open(BytesIO(page.screenshot())) as picture:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)


def main() -> None:
    url, key, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take(browser.new_page(viewport=WINDOW), url, key, folder)  # type: ignore[arg-type]
        browser.close()


if __name__ == "__main__":
    main()
