"""Options of the chaos tests; `make chaos` gives them, and other runs use what they say here."""

from random import SystemRandom

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos-seed", type=int, default=None, help="repeats the schedule of an earlier run")
    parser.addoption("--chaos-events", type=int, default=200_000, help="events acknowledged at least, in the long run")
    parser.addoption("--chaos-faults", type=int, default=60, help="faults of the long run")
    parser.addoption("--chaos-report", default=None, help="a folder for the figures, as JSON")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Given, or drawn and printed; a failing test shows it."""
    given: int | None = request.config.getoption("--chaos-seed", None)
    drawn = SystemRandom().randrange(1_000_000) if given is None else given
    print(f"--chaos-seed {drawn}")  # noqa: T201
    return drawn
