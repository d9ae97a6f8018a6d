"""`millirec canary` and `millirec shadow` as operators use them; what they do to answers is in the journeys."""

import asyncio
import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner, Result

from millirec.commands import rollouts
from millirec.terminal import console
from recsys.errors import NotFound
from recsys.experiments.rollout import Outcome
from recsys.models.alias_move import CANARY, LIVE, SHADOW
from recsys.settings import RegistrySettings, StoreSettings
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.online import open_stores
from tests.environment.versions import publish_small_version


@pytest.fixture
def registry(store_settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", str(tmp_path / "registry"))
    monkeypatch.setenv("MILLIREC_STORE__URL", store_settings.url.get_secret_value())
    monkeypatch.setenv("MILLIREC_STORE__PREFIX", store_settings.prefix)
    monkeypatch.setattr(console, "width", 200)
    opened = open_model_registry(RegistrySettings(url=str(tmp_path / "registry")))
    for seed, version in enumerate(("first", "second")):
        publish_small_version(opened, tmp_path / "built", version, seed)
    promote(opened, "first", actor="ada", reason="start")
    return opened


def run(app: Typer, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def printed(app: Typer, *arguments: str) -> str:
    done = run(app, *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def test_a_canary_is_started_watched_and_led_to_its_end(registry: ModelRegistry, store_settings: StoreSettings) -> None:
    canary = rollouts.canary
    assert isinstance(run(canary, "status").exception, NotFound)
    assert "for 5 % of the users" in printed(canary, "start", "second", "-r", "passed the gate", "--steps", "0.05,0.5")
    move = registry.alias(CANARY)
    assert move is not None
    assert move.rollout is not None

    async def mark(experiment: str) -> None:
        stores = open_stores(store_settings)
        await stores.outcomes.record(
            experiment, {Outcome.EXPOSED: range(0, 1 << 20, 100), Outcome.CONVERTED: range(0, 1 << 20, 500)}
        )
        await stores.aclose()

    asyncio.run(mark(move.rollout.experiment))
    told = printed(canary, "status")
    assert "the step takes 1 h" in told
    assert "of 9,961" in told
    outcomes = {one["name"]: one for one in json.loads(printed(canary, "status", "--json"))["outcomes"]}
    assert (outcomes["converted"]["canary_users"], outcomes["failed"]["canary_rate"]) == (525, 0.0)
    assert "for 50 %" in printed(canary, "advance", "-r", "looks well")
    assert "second is live" in printed(canary, "advance", "-r", "still does")
    live = registry.alias(LIVE)
    assert live is not None
    assert (live.version, live.reason) == ("second", "still does")
    assert isinstance(run(canary, "stop", "-r", "too late").exception, NotFound)


def test_a_shadow_is_started_reported_and_stopped(registry: ModelRegistry, store_settings: StoreSettings) -> None:
    shadow = rollouts.shadow
    assert "for 25 % of the requests" in printed(shadow, "start", "second", "-r", "curious", "--share", "0.25")
    assert "0 compared" in printed(shadow, "report")
    assert json.loads(printed(shadow, "report", "--json"))["overlap"] is None
    assert "no shadow any more" in printed(shadow, "stop", "-r", "seen")
    assert registry.alias(SHADOW) is None


def test_steps_that_are_no_shares_are_refused_by_name(registry: ModelRegistry) -> None:
    done = run(rollouts.canary, "start", "second", "-r", "typo", "--steps", "5%")
    assert done.exit_code == 2
    assert "--steps" in done.output
