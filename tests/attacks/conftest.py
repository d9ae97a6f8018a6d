"""A service with keys to attack, and the table of figures that `make attacks` prints at its end."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from json import dumps
from pathlib import Path
from secrets import token_hex

import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.app.conftest import client, guarded, guarded_client, registry, settings  # noqa: F401  # in process
from tests.attacks.bystanders import Bystanders
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

KEYS = {"recommend": "r" * 20, "events": "e" * 20, "catalogue": "c" * 20, "users": "u" * 20, "admin": "a" * 20}
"""The key of each scope."""
RIVAL = "v" * 20
"""A second key for recommendations, of somebody who asks for all they can get."""
TARGETS = "targets: health p99 at most 50 ms, keyed requests answered at least 95 %"

Report = Callable[[str, Bystanders], None]


def keyed_environment() -> dict[str, str]:
    """Settings with one key per scope."""
    keys = [
        {"name": scope, "sha256": sha256(key.encode()).hexdigest(), "scopes": [scope]} for scope, key in KEYS.items()
    ]
    return {"MILLIREC_SERVE__KEYS": dumps(keys)}


def rivals_environment() -> dict[str, str]:
    """Settings with two keys that may do the same: `shop` and `rival`."""
    keys = [
        {"name": name, "sha256": sha256(key.encode()).hexdigest(), "scopes": ["recommend"]}
        for name, key in (("shop", KEYS["recommend"]), ("rival", RIVAL))
    ]
    return {"MILLIREC_SERVE__KEYS": dumps(keys)}


@pytest.fixture
def rivals(store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    """A service for the keys of a shop and of its rival."""
    with deployed(store_settings, tmp_path, rivals_environment()) as made:
        with_versions(made).serve()
        yield made


@pytest.fixture(scope="module")
def module_store(valkey_url: str) -> StoreSettings:
    """The session's Valkey for the tests of a module, under a prefix of its own."""
    return StoreSettings(url=SecretStr(valkey_url), prefix=f"attack-{token_hex(6)}:", timeout=10.0)


@pytest.fixture
def fortress(store_settings: StoreSettings, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with keys (`KEYS`) and two small versions; no process started yet."""
    with deployed(store_settings, tmp_path, keyed_environment()) as made:
        yield with_versions(made)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """`report("half-sent bodies", bystanders)` puts a row into the table at the end."""

    def add(attack: str, people: Bystanders) -> None:
        record_property(
            "attack",
            f"{attack:<44} health p99 {people.health_p99_ms:7.1f} ms   "
            f"keyed p50 {people.keyed_p50_ms:7.1f} ms, answered {100 * people.keyed_share:5.1f} %",
        )

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for one in reports
        if getattr(one, "when", "") == "call"
        for name, value in getattr(one, "user_properties", ())
        if name == "attack"
    ]
    if rows:
        terminalreporter.section("figures of the attacks")
        terminalreporter.write_line(TARGETS)
        for row in sorted(rows):
            terminalreporter.write_line(str(row))
