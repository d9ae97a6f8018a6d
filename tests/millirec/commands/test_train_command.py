"""`millirec train` as operators run it: one at a time, and whatever goes wrong, what is live stays live."""

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from millirec import retraining
from millirec.commands import train
from millirec.settings import Settings
from recsys.errors import Conflict, InvalidInput
from recsys.settings import LogSettings, RegistrySettings
from recsys.stores.event_log import open_interaction_log
from recsys.stores.leases import open_lease
from recsys.stores.model_registry import open_model_registry
from tests.environment.waiting import wait_until_sync
from tests.training.conftest import checkerboard
from training.runs.triggers import Schedule, Triggers

SMALL = {
    "TRAIN__FACTORS": "8",
    "TRAIN__PARAMETERS__ITERATIONS": "4",
    "TRAIN__THREADS": "1",
    "TRAIN__HOLDOUT_DAYS": "14",
    "TRAIN__GATE__MIN_RATIO_TO_POPULARITY": "1",
    "TRAIN__LEASE_SECONDS": "6",
    "STORE__BACKEND": "memory",
}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistrySettings:
    """A registry beside a log to learn from; the environment names both."""
    places = {"REGISTRY__URL": "registry", "LOG__PATH": "log", "TRAIN__REPORTS": "reports", "REGISTRY__CACHE": "cache"}
    for name, value in {**SMALL, **{name: str(tmp_path / place) for name, place in places.items()}}.items():
        monkeypatch.setenv(f"MILLIREC_{name}", value)
    log = open_interaction_log(LogSettings(path=str(tmp_path / "log")))
    log.append(checkerboard(), {"test-0": 3999})
    return RegistrySettings(url=str(tmp_path / "registry"))


def run(*arguments: str) -> Result:
    app = typer.Typer()
    train.register(app)
    return CliRunner().invoke(app, list(arguments))


def test_a_version_goes_live_is_made_again_and_forced_with_what_was_refused(
    registry: RegistrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = open_model_registry(registry)
    assert run("--reason", "weekly").exit_code == 0
    first = versions.alias("live")
    assert first is not None
    again = run("--like", first.version)
    told = " ".join(again.output.split())
    assert "bit for bit" in told, told
    assert versions.alias("live") == first, "what is made again is not promoted by itself"
    assert len(versions.versions()) == 2
    monkeypatch.setenv("MILLIREC_TRAIN__GATE__MIN_RATIO_TO_POPULARITY", "100")
    assert run().exit_code == 1
    assert run("--force").exit_code == 2, "a force needs a reason"
    assert versions.alias("live") == first
    assert run("--force", "--reason", "we know why").exit_code == 0
    forced = versions.alias("live")
    assert forced is not None
    assert forced.reason == "we know why (forced past 1 reasons of the gate)"
    assert open_lease(registry, train.LEASE, 1.0).current() is None


def test_a_version_begins_as_a_canary_and_the_next_one_waits_for_its_end(registry: RegistrySettings) -> None:
    versions = open_model_registry(registry)
    assert run("--canary").exit_code == 0
    first = versions.alias("live")
    assert first is not None, "the first has nothing to stand beside"
    assert run("--canary", "--reason", "nightly").exit_code == 0
    canary = versions.alias("canary")
    assert canary is not None
    assert (canary.version != first.version, canary.reason) == (True, "nightly")
    assert "is the canary until it ends" in " ".join(run().output.split())
    assert (versions.alias("live"), versions.alias("canary")) == (first, canary)
    assert len(versions.versions()) == 3


def test_while_one_trains_another_is_told_who(registry: RegistrySettings) -> None:
    grant = open_lease(registry, train.LEASE, 60.0).acquire("ada@elsewhere")
    refused = run()
    assert isinstance(refused.exception, Conflict)
    assert "ada@elsewhere" in str(refused.exception)
    assert open_model_registry(registry).versions() == []
    open_lease(registry, train.LEASE, 60.0).check(grant)


def test_a_trainer_killed_in_the_middle_touches_nothing_and_blocks_nobody_for_long(registry: RegistrySettings) -> None:
    versions = open_model_registry(registry)
    assert run("--reason", "the first").exit_code == 0
    live = versions.alias("live")
    lease = open_lease(registry, train.LEASE, 6.0)
    long = {**os.environ, "MILLIREC_TRAIN__PARAMETERS__ITERATIONS": "1000", "MILLIREC_TRAIN__FACTORS": "512"}
    with subprocess.Popen([sys.executable, "-m", "millirec", "train"], env=long, stdout=subprocess.DEVNULL) as trainer:
        wait_until_sync(lambda: (now := lease.current()) and now.token > 2, 60.0)
        trainer.send_signal(signal.SIGKILL)
    assert (versions.alias("live"), len(versions.versions())) == (live, 1)
    wait_until_sync(lambda: lease.current() is None, 30.0)
    assert run("--reason", "the second").exit_code == 0
    assert len(versions.versions()) == 2


def test_a_run_that_crashes_is_followed_by_the_next_and_the_reason_is_told(
    registry: RegistrySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def training(reason: str) -> str:
        told.append(reason)
        if len(told) == 1:
            raise RuntimeError("out of memory")
        signal.raise_signal(signal.SIGTERM)
        return "a version"

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    soon = Schedule(every=timedelta(milliseconds=1))
    retraining.retrain(Settings(), soon, Triggers(), training)
    for one, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(one, handler)
    assert told == ["scheduled training"] * 2
    assert f"next run: at {datetime.now().astimezone():%Y-%m-}" in capsys.readouterr().out


def test_without_a_live_version_a_trigger_calls_for_one(registry: RegistrySettings) -> None:
    why = retraining._reasons_for(Settings(), Triggers(events=1, drop=0.1))
    assert why is not None
    assert why() == ["there is no live version"]
    done = run()
    assert done.exit_code == 0, done.exception
    assert why() == []
    assert retraining._reasons_for(Settings(), Triggers()) is None


def test_a_schedule_that_cannot_be_read_ends_at_once_and_a_single_run_has_no_schedule(
    registry: RegistrySettings,
) -> None:
    assert isinstance(run("--schedule", "daily").exception, InvalidInput)
    assert run("--like", "v", "--every", "1").exit_code == 2
