"""Output of the demo: three customers, what they bought, what they are recommended, and lines to copy."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
from rich.table import Table
from rich.text import Text

from millirec.settings import Settings
from millirec.terminal import console
from recsys.errors import Unavailable
from recsys.stores.online import open_stores

CUSTOMERS = ("17850", "13047", "12583")
SHOWN = 5


def wait_ready(url: str, tend: Callable[[], None], seconds: float = 60.0) -> None:
    """Wait until the service has a version loaded, calling `tend` meanwhile. Raises `Unavailable`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        tend()
        try:
            if httpx.get(f"{url}/health/ready", timeout=2.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise Unavailable(f"{url} did not become ready within {seconds:.0f} s; its log says why")


def recommendations(url: str, user_id: str, k: int = SHOWN) -> dict[str, Any]:
    """Return the service's answer for one user, with titles and prices."""
    params: dict[str, str | int] = {"user_id": user_id, "k": k, "properties": "title,price"}
    response = httpx.get(f"{url}/recommend", params=params, timeout=10.0)
    response.raise_for_status()
    body: dict[str, Any] = response.json()
    return body


def show_customers(url: str, settings: Settings) -> None:
    """Print a table per customer: what they bought last beside what they are recommended now."""
    for customer in CUSTOMERS:
        bought = asyncio.run(_bought(settings, customer))
        body = recommendations(url, customer)
        table = Table(title=f"customer {customer}, index version {body['index_version']}", title_justify="left")
        table.add_column("bought last", max_width=28, no_wrap=True)
        table.add_column("recommended now", style="bold", max_width=28, no_wrap=True)
        table.add_column("price", justify="right", min_width=6)
        table.add_column("score", justify="right", min_width=5)
        for position, item in enumerate(body["items"]):
            shown = item.get("properties", {})
            title = str(shown.get("title", item["item_id"]))
            price = f"{shown['price']:.2f}" if "price" in shown else ""
            table.add_row(bought[position] if position < len(bought) else "", title, price, f"{item['score']:.3f}")
        console.print(table)


async def _bought(settings: Settings, customer: str) -> list[str]:
    stores = open_stores(settings.store)
    try:
        features = (await stores.users.load([customer]))[0]
        last = list(dict.fromkeys(entry.item_id for entry in reversed(features.history)))[:SHOWN]
        items = await stores.items.get(last)
    finally:
        await stores.aclose()
    return [item.title if item and item.title else item_id for item_id, item in zip(last, items, strict=True)]


def show_lines_to_copy(url: str) -> None:
    """Print commands that try the API, to paste into a terminal."""
    customer = CUSTOMERS[0]
    item = recommendations(url, customer)["items"][0]["item_id"]
    lines = [
        ("get recommendations", f"curl '{url}/recommend?user_id={customer}&k=5&properties=title,price'"),
        (
            "post a purchase",
            f"curl {url}/events --json "
            f'\'{{"user_id": "{customer}", "item_id": "{item}", "type": "purchase", "event_id": "try-1"}}\'',
        ),
        ("get changed recommendations", f"curl '{url}/recommend?user_id={customer}&k=5&properties=title,price'"),
        ("what goes with it", f"curl '{url}/recommend?placement=cart&cart_items={item}&k=5&properties=title'"),
        ("why these", f"curl '{url}/recommend?user_id={customer}&k=2&explain=true'"),
        ("roll back to last year's model", f'curl {url}/versions/rollback --json \'{{"reason": "just trying"}}\''),
    ]
    console.print()
    console.print(Text("Try it", style="bold"), f"(documentation: {url}/docs)", highlight=False)
    console.print()
    for label, line in lines:
        console.print(f"  # {label}", style="dim", highlight=False)
        console.print(f"  {line}", highlight=False, soft_wrap=True)
