"""A shop's traffic: browse, recommend, similar, events, now and then a batch.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000            with its web page on port 8089
    locust -f loadtests/locustfile.py --host ... --headless -u 50 -t 1m       in the terminal

Exits with 1 when more than --max-failed of all requests fail, or the 99th percentile of any kind of request is above
--max-p99 milliseconds (times five for batches).
"""

import random
from argparse import ArgumentParser
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, between, events, task

SLOWER = {"/recommend/batch": 5.0}
"""How many times longer some requests may take."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--api-key", default="", env_var="MILLIREC_KEY", help="needs scopes recommend and events")
    parser.add_argument("--max-p99", type=float, default=100.0, help="milliseconds")
    parser.add_argument("--max-failed", type=float, default=0.001, help="share of requests")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: Any) -> None:
    options, total = environment.parsed_options, environment.stats.total
    reasons = []
    if total.fail_ratio > options.max_failed:
        reasons.append(f"{total.fail_ratio:.2%} of requests failed (limit {options.max_failed:.2%})")
    for entry in environment.stats.entries.values():
        p99, limit = entry.get_response_time_percentile(0.99) or 0.0, options.max_p99 * SLOWER.get(entry.name, 1.0)
        if p99 > limit:
            reasons.append(f"p99 of {entry.method} {entry.name} {p99:.0f} ms (limit {limit:.0f} ms)")
    for reason in reasons:
        print(f"FAILED: {reason}")
    if reasons:
        environment.process_exit_code = 1


class Shopper(FastHttpUser):
    """Looks at what is recommended, follows similar items, buys now and then."""

    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        """Choose a random customer."""
        self.user = str(random.randint(12346, 18287))
        self.shown: list[str] = []
        self.recommendation: str | None = None
        self.headers = {"X-API-Key": self.environment.parsed_options.api_key}

    @task(10)
    def recommend(self) -> None:
        """Ask for twelve items, and remember them."""
        with self.client.get(
            f"/recommend?user_id={self.user}&k=12&properties=title,price",
            name="/recommend",
            headers=self.headers,
            catch_response=True,
        ) as response:
            body = response.json() if response.status_code == 200 else {"items": []}
            if not body["items"]:
                response.failure(f"no items, status {response.status_code}")
                return
            self.shown = [item["item_id"] for item in body["items"]]
            self.recommendation = body["recommendation_id"]

    @task(4)
    def similar(self) -> None:
        """Ask for items like one of those shown."""
        if self.shown:
            item = random.choice(self.shown)
            self.client.get(f"/items/{item}/similar?k=8", name="/items/{id}/similar", headers=self.headers)

    @task(2)
    def popular(self) -> None:
        """Ask for popular items."""
        self.client.get("/popular?k=12", name="/popular", headers=self.headers)

    @task(2)
    def trending(self) -> None:
        """Ask for the trend of the last week."""
        self.client.get("/trending?k=12&hours=168", name="/trending", headers=self.headers)

    @task(2)
    def cart(self) -> None:
        """Ask for items that go with the cart, below a price, different from each other."""
        body = {
            "user_id": self.user,
            "placement": "cart",
            "cart_items": self.shown[:3],
            "filter": "price < 10",
            "diversity": 0.3,
            "properties": ["title", "price"],
        }
        self.client.post("/recommend", json=body, name="/recommend (cart)", headers=self.headers)

    @task(1)
    def newsletter(self) -> None:
        """Twenty customers in one call."""
        users = [str(random.randint(12346, 18287)) for _ in range(20)]
        self.client.post(
            "/recommend/batch", json={"users": users, "k": 6}, name="/recommend/batch", headers=self.headers
        )

    @task(5)
    def view(self) -> None:
        """Send one view."""
        self._post([self._event("view")])

    @task(1)
    def buy_a_cart(self) -> None:
        """Send two to ten purchases."""
        self._post([self._event("purchase") for _ in range(random.randint(2, 10))])

    def _event(self, kind: str) -> dict[str, Any]:
        return {
            "event_id": str(uuid4()),
            "user_id": self.user,
            "item_id": random.choice(self.shown or ["85123A"]),
            "type": kind,
            "recommendation_id": self.recommendation,
        }

    def _post(self, batch: list[dict[str, Any]]) -> None:
        with self.client.post(
            "/events", json={"events": batch}, name="/events", headers=self.headers, catch_response=True
        ) as response:
            if response.status_code != 202:
                response.failure(f"status {response.status_code}")
