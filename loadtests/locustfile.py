"""A shop's traffic: browse, recommend, similar, events, now and then a batch.

    locust -f loadtests/locustfile.py --host http://127.0.0.1:8000            with its web page on port 8089
    locust -f loadtests/locustfile.py --host ... --headless -u 50 -t 1m       in the terminal

Exits with 1 when more than 0.1 % of requests fail or the 99th percentile is above --max-p99 milliseconds.
"""

import random
from argparse import ArgumentParser
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, between, events, task

MAX_FAILED = 0.001


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--api-key", default="", env_var="MILLIREC_KEY", help="needs scopes recommend and events")
    parser.add_argument("--max-p99", type=float, default=100.0, help="milliseconds")


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Any, **_: Any) -> None:
    total = environment.stats.total
    p99 = total.get_response_time_percentile(0.99) or 0.0
    limit = environment.parsed_options.max_p99
    if total.fail_ratio > MAX_FAILED or p99 > limit:
        print(f"FAILED: {total.fail_ratio:.2%} of requests failed, p99 {p99:.0f} ms (limit {limit:.0f} ms)")
        environment.process_exit_code = 1


class Shopper(FastHttpUser):
    """Looks at what is recommended, follows similar items, buys now and then."""

    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        self.user = str(random.randint(12346, 18287))
        self.shown: list[str] = []
        self.recommendation: str | None = None
        self.headers = {"X-API-Key": self.environment.parsed_options.api_key}

    @task(10)
    def recommend(self) -> None:
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
            self.shown = [one["item_id"] for one in body["items"]]
            self.recommendation = body["recommendation_id"]

    @task(4)
    def similar(self) -> None:
        if self.shown:
            item = random.choice(self.shown)
            self.client.get(f"/items/{item}/similar?k=8", name="/items/{id}/similar", headers=self.headers)

    @task(2)
    def popular(self) -> None:
        self.client.get("/popular?k=12", name="/popular", headers=self.headers)

    @task(5)
    def view(self) -> None:
        self._post([self._event("view")])

    @task(1)
    def buy_a_cart(self) -> None:
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
