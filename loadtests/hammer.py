"""Locust as fast as it goes: the benchmark's generator where wrk is not installed."""

import random
from argparse import ArgumentParser

from locust import FastHttpUser, constant, events, task


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--population", type=int, default=1000, help="users are user-0 to user-(N-1)")
    parser.add_argument("--api-key", default="", help="sent as X-API-Key")
    parser.add_argument("--placement", default="", help="named in the request unless empty")


class Hammer(FastHttpUser):
    """A client that asks again at once."""

    wait_time = constant(0)

    @task
    def recommend(self) -> None:
        """Ask for ten items for a random user."""
        options = self.environment.parsed_options
        user = random.randrange(options.population)
        placement = f"&placement={options.placement}" if options.placement else ""
        self.client.get(
            f"/recommend?k=10&user_id=user-{user}{placement}", name="/recommend", headers={"X-API-Key": options.api_key}
        )
