"""The doctor: whatever is wrong with a deployment is named, with what to do and a section of the runbook."""

import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from millirec.checkup import Finding, State, registry
from millirec.checkup.processes import MAX_LAG, consumers, damage, look, replicas
from millirec.settings import Settings
from recsys.models.manifest import FORMAT_VERSION
from recsys.settings import LogSettings, RegistrySettings, StoreSettings
from recsys.stores.heartbeats import SILENT_SECONDS, Heartbeat, Instance
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.rollouts import start_shadow
from recsys.stores.online import open_stores
from tests.environment.deployment import Deployment, free_port
from tests.environment.versions import publish_small_version
from tests.environment.waiting import WaitUntil


@pytest.fixture
def settings(store_settings: StoreSettings, tmp_path: Path) -> Settings:
    """A deployment with two versions, the second of them live."""
    made = Settings(
        store=store_settings,
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
    )
    versions = open_model_registry(made.registry)
    for seed, version in enumerate(("first", "second")):
        publish_small_version(versions, tmp_path / "built", version, seed)
        promote(versions, version, actor="test", reason="start")
    return made


def named(found: list[Finding], state: State) -> dict[str, str]:
    return {one.check: one.found for one in found if one.state is state}


# Processes


async def test_workers_and_consumers_that_are_out_of_step_are_named(settings: Settings) -> None:
    stores = open_stores(settings.store)
    await stores.heartbeats.report(Heartbeat("a:1", "serve", "live", "second", ("second", "first")))
    await stores.heartbeats.report(Heartbeat("a:2", "serve", "live", "first", ("first",)))
    await stores.heartbeats.report(Heartbeat("b:1:features", "consume features", versions=("first",)))
    found = await look(settings)
    await stores.aclose()
    wrong = named(found, State.WRONG)
    assert wrong.keys() == {"worker a:2", "consumer b:1:features", "group log"}
    assert wrong["worker a:2"].startswith("answers from first; live has been second for")
    assert "does not fold events into second" in wrong["consumer b:1:features"]
    assert {one.section for one in found if one.state is State.WRONG} == {"versions-differ", "lag"}


async def test_workers_and_consumers_in_step_are_fine(settings: Settings) -> None:
    stores = open_stores(settings.store)
    assert [one.state for one in await look(settings)] == [State.NOTE], "nothing runs yet"
    await stores.heartbeats.report(Heartbeat("a:1", "serve", "live", "second", ("second", "first")))
    await stores.heartbeats.report(Heartbeat("b:1:features", "consume features", versions=("second", "first")))
    await stores.heartbeats.report(Heartbeat("b:1:log", "consume log"))
    assert {one.state for one in await look(settings)} == {State.OK}
    await stores.heartbeats.leave("a:1")
    assert named(await look(settings), State.WRONG) == {"workers": "consumers run, and no replica"}
    await stores.aclose()


async def test_workers_that_wait_for_a_first_version_are_fine_and_those_of_a_lost_registry_are_not(
    settings: Settings, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "registry")
    versions = open_model_registry(settings.registry)
    waiting = Instance(Heartbeat("a:1", "serve", "live"), 1.0)
    assert [one.found for one in replicas(versions, [waiting])] == ["1 wait for a version"]
    lost = Instance(Heartbeat("a:1", "serve", "live", "second", ("second",)), 1.0)
    assert [one.section for one in replicas(versions, [lost])] == ["registry-away"]


def test_a_worker_without_the_version_of_a_rollout_is_named(settings: Settings) -> None:
    versions = open_model_registry(settings.registry)
    start_shadow(versions, "first", actor="test", reason="test")
    without, with_it = (
        Instance(Heartbeat(name, "serve", "live", "second", held), 1.0)
        for name, held in (("a:1", ("second",)), ("a:2", ("second", "first")))
    )
    assert named([*replicas(versions, [without, with_it])], State.WRONG).keys() == {"worker a:1"}


def test_a_silent_worker_and_a_group_that_is_far_behind_are_named(settings: Settings) -> None:
    versions = open_model_registry(settings.registry)
    silent = Instance(Heartbeat("a:1", "serve", "live", "second", ("second",)), SILENT_SECONDS + 1)
    assert "silent for 11 s" in named([*replicas(versions, [silent])], State.WRONG)["worker a:1"]
    members = [
        Instance(Heartbeat(f"b:{n}:features", "consume features", versions=("second", "first"), lag=MAX_LAG), 1.0)
        for n in range(2)
    ]
    log = Instance(Heartbeat("b:1:log", "consume log", lag=MAX_LAG), 1.0)
    assert named([*consumers(versions, [*members, log])], State.WRONG) == {
        "group features": f"{2 * MAX_LAG:,} messages behind, with 2 members"
    }


@pytest.mark.slow
async def test_a_replica_that_is_held_back_on_an_old_version_is_found_by_its_process(
    deployment: Deployment, store_settings: StoreSettings, wait_until: WaitUntil
) -> None:
    deployment.serve()
    # A replica of its own: of the workers on one port, one that hangs is replaced after some seconds.
    other = deployment.start("other", "serve", "--port", str(free_port()))
    deployment.start("consume", "consume")
    stores = open_stores(store_settings)

    async def answering() -> dict[str, str | None]:
        return {
            one.heartbeat.process: one.heartbeat.version
            for one in await stores.heartbeats.instances()
            if one.heartbeat.version
        }

    async def settled(version: str, workers: int) -> bool:
        return [*(await answering()).values()].count(version) == workers and len(
            await stores.heartbeats.instances()
        ) == 4

    await wait_until(lambda: settled("first", 2), 60.0)
    assert "2 answer from first" in told(deployment)
    held = next(name for name in await answering() if name.endswith(f":{other.pid}"))
    os.kill(other.pid, signal.SIGSTOP)
    try:
        deployment.run("versions", "promote", "second", "--reason", "held back")
        await wait_until(lambda: settled("second", 1), 60.0)
        found = json.loads(told(deployment))["findings"]
        assert {one["check"] for one in found if one["state"] == "wrong"} == {f"worker {held}"}
        assert any("answers from first" in one["found"] for one in found)
    finally:
        os.kill(other.pid, signal.SIGCONT)
    await wait_until(lambda: settled("second", 2), 60.0)
    assert json.loads(told(deployment))["sound"]
    await stores.aclose()


def told(deployment: Deployment) -> str:
    command = [sys.executable, "-m", "millirec", "doctor", "--json"]
    done = subprocess.run(command, env=deployment.environment, capture_output=True, text=True, timeout=60, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["sound"] else 1)
    return done.stdout


def test_too_few_open_files_are_wrong_and_said_with_what_would_be_enough(deployment: Deployment) -> None:
    command = ["/bin/sh", "-c", f"ulimit -n 300; exec {sys.executable} -m millirec doctor --json"]
    done = subprocess.run(command, env=deployment.environment, capture_output=True, text=True, timeout=60, check=False)
    [finding] = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "open files"]
    assert (finding["state"], finding["section"]) == ("wrong", "connections")
    assert "room for 156 connections" in finding["found"]
    assert "ulimit -n" in finding["todo"]


# The registry


async def test_an_alias_that_nobody_can_load_is_named_with_the_command_that_moves_it(
    settings: Settings, tmp_path: Path
) -> None:
    versions = open_model_registry(settings.registry)
    promote(versions, "first", actor="test", reason="to look at", alias="candidate")
    shutil.rmtree(tmp_path / "registry" / "models" / "recommender" / "versions" / "first")
    manifest = tmp_path / "registry" / "models" / "recommender" / "versions" / "second" / "manifest.json"
    later = msgspec.json.decode(manifest.read_bytes()) | {"format_version": FORMAT_VERSION + 1}
    manifest.write_bytes(msgspec.json.encode(later))
    found = [one for one in await registry.model_registry(settings) if one.state is State.WRONG]
    assert {one.check: one.section for one in found} == {
        "alias candidate": "aliases",
        "alias live": "version-refused",
    }
    assert "millirec versions clear candidate" in found[[one.check for one in found].index("alias candidate")].todo


async def test_a_version_to_go_back_to_that_this_release_does_not_read_is_noted(
    settings: Settings, tmp_path: Path
) -> None:
    manifest = tmp_path / "registry" / "models" / "recommender" / "versions" / "first" / "manifest.json"
    older = msgspec.json.decode(manifest.read_bytes()) | {"format_version": FORMAT_VERSION - 1}
    manifest.write_bytes(msgspec.json.encode(older))
    assert "bring back first" in named(await registry.model_registry(settings), State.NOTE)["alias previous"]


async def test_a_rollout_that_was_forgotten_and_one_by_hand_are_noted(settings: Settings, tmp_path: Path) -> None:
    versions = open_model_registry(settings.registry)
    start_shadow(versions, "first", actor="test", reason="test")
    promote(versions, "first", actor="test", reason="test", alias="canary")
    assert named(await registry.model_registry(settings), State.NOTE).keys() == {"alias canary"}
    (move,) = (tmp_path / "registry" / "models" / "recommender" / "aliases" / "shadow").iterdir()
    told = msgspec.json.decode(move.read_bytes()) | {"moved_at": datetime.now(UTC) - timedelta(days=8)}
    move.write_bytes(msgspec.json.encode(told))
    assert "for 8 days" in named(await registry.model_registry(settings), State.NOTE)["alias shadow"]


async def test_nothing_live_is_wrong_and_an_empty_registry_a_note(settings: Settings, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "registry" / "models" / "recommender" / "aliases")
    (nothing,) = [one for one in await registry.model_registry(settings) if one.state is State.WRONG]
    assert (nothing.section, "promote second" in nothing.todo) == ("no-version", True)
    shutil.rmtree(tmp_path / "registry" / "models" / "recommender" / "versions")
    assert "train one" in named(await registry.model_registry(settings), State.NOTE)["model registry"]


async def test_half_an_upload_is_noted_after_a_day(settings: Settings, tmp_path: Path) -> None:
    half = tmp_path / "registry" / "models" / "recommender" / "versions" / "half" / "item_factors.npy"
    half.parent.mkdir()
    half.write_bytes(b"half")
    assert "uploads" not in named(await registry.model_registry(settings), State.NOTE)
    yesterday = datetime.now(UTC).timestamp() - 100_000
    os.utime(half, (yesterday, yesterday))
    assert "half" in named(await registry.model_registry(settings), State.NOTE)["uploads"]


async def test_a_file_that_does_not_match_its_manifest_is_found_when_asked_to_look_deep(
    settings: Settings, tmp_path: Path
) -> None:
    file = next((tmp_path / "registry" / "models" / "recommender" / "versions" / "first").glob("item_factors*"))
    file.write_bytes(file.read_bytes()[::-1])
    assert named(await registry.model_registry(settings), State.WRONG) == {}
    assert file.name in named(await registry.deep_registry(settings), State.WRONG)["version first"]


async def test_a_registry_that_cannot_be_written_is_wrong_though_it_can_be_read(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "registry" / "leases").write_text("in the way")
    (found,) = await registry.model_registry(settings)
    assert (found.state, found.section) == (State.WRONG, "registry-away")
    assert "MILLIREC_REGISTRY__URL" in found.todo


def test_a_process_that_met_a_damaged_record_is_named() -> None:
    damaged, well = Heartbeat("a:1", "serve", unreadable=3), Heartbeat("b:2", "serve")
    assert list(damage([Instance(well, 1.0)])) == []
    (finding,) = damage([Instance(well, 1.0), Instance(damaged, 1.0)])
    assert (finding.state, finding.section) == (State.NOTE, "unreadable-records")
    assert "a:1" in finding.found
