"""`millirec demo --check`: each promise of the demo, tried over HTTP and asserted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
from rich.text import Text

from millirec.demo.output import CUSTOMERS, recommendations
from millirec.settings import Settings
from millirec.terminal import console
from recsys.errors import RecsysError
from recsys.stores.event_log import open_interaction_log

PATIENCE = 20.0
FRESH = "begin anew with `millirec demo --check --fresh`, which deletes the folder"


class CheckFailed(RecsysError):
    """A promise of the demo does not hold."""


def check(url: str, settings: Settings, console_url: str | None) -> None:
    """Check every promise of the demo. Raises `CheckFailed` at the first that does not hold."""
    if console_url is not None:
        with _step("the console lets in who may, and shows its pages"):
            _console(console_url)
    with httpx.Client(base_url=url, timeout=10.0) as client:
        with _step("the deployment is as the demo made it"):
            as_made(client)
        with _step("known customers get personal items with titles"):
            _known_customers(url)
        with _step("an unknown visitor gets popular items"):
            body = _get(client, "/recommend", user_id="nobody-yet")
            _expect(body["fallback_level"] == "popular" and body["items"], f"got {body}")
        with _step("an item has similar items"):
            item = recommendations(url, CUSTOMERS[0])["items"][0]["item_id"]
            _expect(bool(_get(client, f"/items/{item}/similar")["items"]), f"nothing is similar to {item}")
        with _step("an item has others that are bought with it, below a price"):
            body = _get(client, "/recommend", placement="cart", cart_items=item, filter="price < 5", properties="price")
            together = [entry for entry in body["items"] if entry["source"] == "co_occurrence"]
            _expect(bool(together), f"nothing is bought together with {item}")
            _expect(all(entry["properties"]["price"] < 5 for entry in body["items"]), f"the filter let through {body}")
        with _step("an answer explains itself"):
            body = _get(client, "/recommend", user_id=CUSTOMERS[0], k=1, explain="true")
            _expect(bool(body["items"][0]["why"]["contributions"]), f"no reason in {body}")
        with _step("a purchase changes the next answer, and counts once") as seconds:
            event_id = _purchase(client, url, seconds)
        with _step("the purchase is in the interaction log"):
            _until(lambda: _logged(settings, event_id) == 1, f"{event_id} is not in the log exactly once")
        with _step("an item out of stock leaves every answer") as seconds:
            _out_of_stock(client, url, seconds)
        with _step("a rollback and a promote give the same answers as before"):
            _rollback(client, url)
        with _step("bad input is named, not a server error"):
            response = client.get("/recommend", params={"k": 0})
            _expect(response.status_code == 422 and response.json()["errors"][0]["field"] == "k", response.text)


def as_made(client: httpx.Client) -> None:
    """Check what the promises rest on; somebody may have tried rollbacks and erasures in this folder."""
    answer = _get(client, "/versions")
    newest = answer["versions"][-1]["version"]
    if answer["serving"] != newest:
        restore = f"promote {newest} (`millirec --data DIR versions promote {newest} --reason ...`)"
        raise CheckFailed(
            f"{answer['serving']} is live and not {newest}, which was trained last: {restore}, or {FRESH}"
        )
    for customer in CUSTOMERS:
        if not _get(client, f"/users/{customer}")["interactions"]:
            raise CheckFailed(f"customer {customer} has no history, as after an erasure, which is for good: {FRESH}")


def _console(url: str) -> None:
    with httpx.Client(base_url=url, timeout=10.0, follow_redirects=True) as browser:
        _until(lambda: _answers(browser, "/health"), "the console does not answer")
        _expect(browser.get("/").url.path == "/login", "the console asks nobody who they are")
        page = browser.post("/login", headers={"Origin": url})
        _expect(page.status_code == 200 and page.url.path == "/", f"the login answered {page.status_code}")
        _expect("Overview" in page.text, "the first page is not the overview")


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).is_success
    except httpx.TransportError:
        return False


def _known_customers(url: str) -> None:
    for customer in CUSTOMERS:
        body = recommendations(url, customer)
        personal = body["fallback_level"] in {"embedding", "folded", "snapshot"} and not body["degraded"]
        _expect(personal and len(body["items"]) == 5, f"customer {customer} got {body}")
        _expect(any("title" in entry["properties"] for entry in body["items"]), f"no titles for customer {customer}")


def _purchase(client: httpx.Client, url: str, seconds: list[float]) -> str:
    customer = CUSTOMERS[0]
    previous = recommendations(url, customer)
    event_id = f"demo-{uuid4()}"
    item = previous["items"][0]["item_id"]
    purchased_at = datetime.now(UTC).replace(microsecond=0)
    event = {"event_id": event_id, "user_id": customer, "item_id": item, "type": "purchase"}
    event["occurred_at"] = purchased_at.isoformat()
    for _ in range(2):
        response = client.post("/events", json=event)
        _expect(response.status_code == 202, response.text)
    posted = time.monotonic()

    def changed() -> bool:
        """Return whether the answer is fresh and differs from the one before the purchase."""
        body = recommendations(url, customer)
        return bool(body["fallback_level"] == "embedding" and body["items"] != previous["items"])

    _until(changed, f"the answer for {customer} did not change")
    seconds.append(time.monotonic() - posted)
    new = _get(client, "/recommend", user_id=customer, placement="discover")["items"]
    _expect(item not in [entry["item_id"] for entry in new], f"{item} is called new after its purchase")
    interactions = _get(client, f"/users/{customer}")["interactions"]
    moment = {"item_id": item, "type": "purchase", "occurred_at": f"{purchased_at:%Y-%m-%dT%H:%M:%SZ}"}
    newest = [interaction for interaction in interactions if interaction == moment]
    _expect(len(newest) == 1, f"the purchase counts {len(newest)} times")
    return event_id


def _out_of_stock(client: httpx.Client, url: str, seconds: list[float]) -> None:
    item = recommendations(url, CUSTOMERS[1])["items"][0]["item_id"]

    def shown() -> bool:
        """Return whether the item is in the customer's answer."""
        return item in [entry["item_id"] for entry in recommendations(url, CUSTOMERS[1])["items"]]

    began = time.monotonic()
    _expect(client.put("/items", json={"item_id": item, "available": False}).status_code == 202, "not accepted")
    _until(lambda: not shown(), f"{item} is still shown")
    seconds.append(time.monotonic() - began)
    _expect(client.put("/items", json={"item_id": item, "available": True}).status_code == 202, "not accepted")
    _until(shown, f"{item} did not come back")


def _rollback(client: httpx.Client, url: str) -> None:
    previous = [_whole(url, customer) for customer in CUSTOMERS]
    rolled_back = client.post("/versions/rollback", json={"reason": "demo check"})
    _expect(rolled_back.status_code == 200, rolled_back.text)
    body = recommendations(url, CUSTOMERS[0])
    _expect(body["index_version"] == rolled_back.json()["version"], "the rollback did not take effect")
    _expect(body["items"] != previous[0]["items"], "the two versions give the same answer")
    version = previous[0]["index_version"]
    promoted = client.post(f"/versions/{version}/promote", json={"reason": "demo check"})
    _expect(promoted.status_code == 200, promoted.text)
    for customer, earlier in zip(CUSTOMERS, previous, strict=True):
        answer = _whole(url, customer)
        same = {**answer, "recommendation_id": ""} == {**earlier, "recommendation_id": ""}
        _expect(same, f"customer {customer} had {earlier}, now has {answer}")


def _whole(url: str, customer: str) -> dict[str, Any]:
    """Return an answer that uses the customer's features; degraded answers are asked for again."""
    answers: list[dict[str, Any]] = []

    def whole() -> bool:
        """Return whether a new answer is not degraded."""
        answers.append(recommendations(url, customer))
        return not answers[-1]["degraded"]

    _until(whole, f"customer {customer} got degraded answers only")
    return answers[-1]


def _logged(settings: Settings, event_id: str) -> int:
    import polars as pl

    rows = open_interaction_log(settings.log).read().filter(pl.col("event_id") == event_id)
    count: int = rows.select(pl.len()).collect().item()
    return count


def _get(client: httpx.Client, path: str, **params: str | int) -> dict[str, Any]:
    response = client.get(path, params=params)
    _expect(response.status_code == 200, f"{path} answered {response.status_code}: {response.text}")
    body: dict[str, Any] = response.json()
    return body


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        _expect(time.monotonic() < deadline, f"{otherwise} within {PATIENCE:.0f} s")
        time.sleep(0.005)


@contextmanager
def _step(name: str) -> Iterator[list[float]]:
    measured: list[float] = []
    try:
        yield measured
    except (CheckFailed, httpx.HTTPError) as error:
        console.print(Text("✗", style="red"), name, highlight=False)
        raise CheckFailed(f"{name}: {error}") from error
    took = f"({measured[0] * 1000:.0f} ms)" if measured else ""
    console.print(Text("✓", style="green"), name, Text(took, style="dim"), highlight=False)
