"""Operations in the console, by clicks, and their effects in the service."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from millirec.console.panels.placement_text import text_of
from recsys.settings import LogSettings, StoreSettings, TopicSettings
from recsys.stores.dead_letters import open_dead_letters
from recsys.stores.dead_letters.protocol import LetterQuery, Status
from recsys.stores.topic import Outgoing, open_interaction_topic
from tests.browser.conftest import KEY, Shop
from tests.environment.waiting import wait_until_sync
from tests.journeys.hammer import hammering

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def open_page(page: Page, shop: Shop, path: str, title: str) -> None:
    page.goto(shop.path(path))
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
    expect(page.locator(".q-spinner")).to_have_count(0)


def test_a_user_is_answered_by_two_versions_side_by_side(page: Page, shop: Shop) -> None:
    shop.api.post("/versions/second/promote", json={"reason": "to have two in memory"}).raise_for_status()
    shop.api.post("/versions/rollback", json={"reason": "back to the first"}).raise_for_status()
    open_page(page, shop, "/inspector?user=u2", "Inspector")
    panel = page.get_by_role("tabpanel")
    panel.get_by_label("Compare with").click()
    page.get_by_role("option", name="second").click()
    expect(panel.get_by_text("of the items are in both")).to_be_visible()
    expect(panel.get_by_text("same place").first).to_be_visible()
    panel.locator(".q-expansion-item").first.click()
    expect(panel.get_by_text("Rank by stage").first).to_be_visible()


def test_the_slider_asks_anew_with_its_diversity(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/inspector?user=u2", "Inspector")
    panel = page.get_by_role("tabpanel")
    items = panel.locator(".q-expansion-item")
    expect(items).to_have_count(10)
    before = items.all_inner_texts()
    panel.get_by_role("switch").click()
    slider = panel.get_by_role("slider")
    expect(slider).not_to_have_attribute("aria-disabled", "true")
    track = slider.locator(".q-slider__track-container")
    track.focus()
    # The server's echo of an earlier step may swallow a quick one.
    while slider.get_attribute("aria-valuenow") != "1":
        track.press("ArrowRight")
    asked = {"user_id": "u2", "k": 10, "diversity": 1.0}
    answer = shop.api.post("/recommend", json=asked).json()["items"]
    for place, item in enumerate(answer):
        expect(items.nth(place)).to_contain_text(f"{item['item_id']} · {item['source']}")
    assert items.all_inner_texts() != before


def test_a_promote_and_a_rollback_by_clicks_while_requests_flow(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/versions", "Versions")
    with hammering(shop.deployment.url, clients=2, key=KEY) as hammer:
        hammer.settle_on("first", requests=50)
        page.get_by_role("row", name="second").get_by_role("checkbox").click()
        page.get_by_role("button", name="Promote").click()
        tell_why(page, "Promote", "better in the test")
        hammer.settle_on("second", requests=50)
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Roll back").click()
        tell_why(page, "Roll back", "worse in the shop")
        hammer.settle_on("first", requests=50)
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert hammer.failures == []
    assert {key for key, answers in hammer.answers.items() if len(answers) != 1} == set(), "an answer mixed versions"
    assert {version for _, version in hammer.answers} == {"first", "second"}
    expect(page.get_by_role("row", name="rollback: worse in the shop")).to_contain_text("ops")


def tell_why(page: Page, action: str, why: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill(why)
    dialog.get_by_role("button", name=action).click()


def test_an_unknown_user_and_an_unknown_item_are_told_as_such(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/inspector?user=nobody", "Inspector")
    expect(page.get_by_text("Nothing is known of this user.")).to_be_visible()
    expect(page.get_by_text("what is popular").first).to_be_visible()
    open_page(page, shop, "/inspector?item=nothing", "Inspector")
    expect(page.get_by_text("Nobody knows an item nothing")).to_be_visible()


def test_an_item_says_why_it_is_not_in_a_users_answer(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/inspector?item=i7", "Inspector")
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_text("not available", exact=True)).to_be_visible()
    panel.get_by_label("User id").fill("u3")
    panel.get_by_role("button", name="Explain").click()
    expect(panel.get_by_text("Not in the answer. It is not available.")).to_be_visible()


def test_a_placement_is_mended_tried_out_saved_and_taken_back(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/placements?name=discover", "Placements")
    text = page.get_by_label("Placement, as JSON")
    saved = text_of(shop.api.get("/placements/discover").json()["placement"])
    expect(text).to_have_value(saved)
    text.fill(saved.replace('"k": 10', '"k": 0'))
    expect(page.get_by_text("line 2, k: Expected `int` >= 1")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    text.fill(saved.replace('"k": 10', '"k": 4'))
    expect(page.get_by_text("A valid placement.")).to_be_visible()
    page.get_by_label("User id").fill("u2")
    page.get_by_role("button", name="Try it out").click()
    expect(page.get_by_text("As edited")).to_be_visible()
    assert len(shop.api.get("/recommend", params={"placement": "discover"}).json()["items"]) == 10, "not saved yet"
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_text("ops set it")).to_be_visible()
    assert len(shop.api.get("/recommend", params={"placement": "discover"}).json()["items"]) == 4
    page.get_by_role("button", name="Take back").click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    expect(page.get_by_text("ops took it back")).to_be_visible()
    assert len(shop.api.get("/recommend", params={"placement": "discover"}).json()["items"]) == 10


EVIL = b"<script>alert(1)</script>"
SHORT = json.dumps({"kind": "interaction", "event_id": "e1", "user_id": "u1", "item_id": "i1"}).encode()


def send(shop: Shop, *values: bytes) -> None:
    """Onto the topic as an outside producer does; in a thread, since Playwright keeps this one's event loop."""
    environment = shop.deployment.environment
    store = StoreSettings(
        url=SecretStr(environment["MILLIREC_STORE__URL"]), prefix=environment["MILLIREC_STORE__PREFIX"]
    )
    topic = TopicSettings(partitions=int(environment["MILLIREC_TOPIC__PARTITIONS"]))

    async def sent() -> list[Exception | None]:
        async with open_interaction_topic(topic, store).producer() as producer:
            return await producer.send([Outgoing("u1", value) for value in values])

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asyncio.run, sent()).result(30.0) == [None] * len(values)


def test_dead_letters_are_looked_into_discarded_and_replayed(page: Page, shop: Shop, screenshots: Path) -> None:
    kept = open_dead_letters(LogSettings(path=shop.deployment.environment["MILLIREC_LOG__PATH"]))
    send(shop, EVIL, SHORT)
    wait_until_sync(lambda: kept.waiting() == 2, 60.0)
    open_page(page, shop, "/letters", "Dead letters")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.screenshot(path=screenshots / "letters-waiting.png", full_page=True)
    page.locator("tbody tr", has_text="malformed").get_by_text("malformed").click()
    expect(page.get_by_role("dialog").get_by_text(EVIL.decode(), exact=True)).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.locator("tbody tr", has_text="malformed").get_by_role("checkbox").click()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("somebody played")
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    [given_up] = kept.letters(LetterQuery(Status.DISCARDED))
    assert (given_up.why, kept.content([given_up])) == ("somebody played", {})
    page.locator("tbody tr").get_by_role("checkbox").click()
    page.get_by_role("button", name="Replay").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.get_by_text("1 replayed")).to_be_visible()
    wait_until_sync(lambda: [one.times_seen for one in kept.letters(LetterQuery())] == [2], 60.0)


def test_an_import_and_its_refused_rows_are_told_of(page: Page, shop: Shop) -> None:
    open_page(page, shop, "/data", "Data quality")
    expect(page.get_by_text("shop.csv: 8 of 9 rows accepted")).to_be_visible()
    expect(page.get_by_text("rejected: user_id is missing")).to_be_visible()
