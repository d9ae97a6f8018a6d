"""Replicas and versions of different releases at the same time: served, or refused by name, never served wrong."""

import io
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest
from backports import zstd

from app.main import create_app
from app.settings import AppSettings
from ingest.stream.versions_in_service import VersionsInService
from recsys.models.alias_move import AliasMove
from recsys.models.manifest import FORMAT_VERSION
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.archive import import_version
from recsys.stores.notifications import VERSIONS_CHANNEL
from recsys.stores.online import open_stores
from tests.app.conftest import client_of
from tests.environment.versions import publish_small_version
from tests.environment.waiting import WaitUntil

ARTEFACTS = Path(__file__).parents[2] / "data" / "artefacts"
OTHER_RELEASES = ["older", "newer"]


@pytest.fixture(params=OTHER_RELEASES)
def foreign(request: pytest.FixtureRequest, registry: ModelRegistry, tmp_path: Path) -> str:
    """A version that another release has published: one of the repository, or ours with the next format's number."""
    if request.param == "older":
        with tarfile.open(fileobj=io.BytesIO(zstd.decompress((ARTEFACTS / "format-2.tar.zst").read_bytes()))) as tar:
            tar.extractall(tmp_path / "registry" / "models" / "recommender" / "versions", filter="data")
        return "format-2"
    name = f"format-{FORMAT_VERSION}"
    import_version(registry, ARTEFACTS / f"{name}.tar.zst", tmp_path / "scratch")
    manifest = tmp_path / "registry" / "models" / "recommender" / "versions" / name / "manifest.json"
    later = msgspec.json.decode(manifest.read_bytes()) | {"format_version": FORMAT_VERSION + 1, "new_word": [1]}
    manifest.write_bytes(msgspec.json.encode(later))
    return name


def promote_elsewhere(folder: Path, version: str, alias: str = "live") -> None:
    """Move an alias as the other release does, which can open its own versions."""
    moves = folder / "registry" / "models" / "recommender" / "aliases" / alias
    moves.mkdir(parents=True, exist_ok=True)
    sequence = len(list(moves.iterdir())) + 1
    move = AliasMove(
        alias=alias,
        version=version,
        sequence=sequence,
        moved_at=datetime.now(UTC),
        actor="test",
        reason="by the other release",
    )
    (moves / f"{sequence:08d}.json").write_bytes(msgspec.json.encode(move))


async def test_a_replica_serves_on_when_another_release_promotes_and_follows_when_it_is_rolled_back(
    client: httpx.AsyncClient, registry: ModelRegistry, foreign: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    async def refused() -> float:
        text = (await client.get("/metrics")).text
        lines = [one for one in text.splitlines() if one.startswith("millirec_index_load_failures_total")]
        return sum(float(one.rpartition(" ")[2]) for one in lines if 'reason="corrupt"' in one)

    before = await refused()
    promote_elsewhere(tmp_path, foreign)

    async def refused_once_more() -> bool:
        return await refused() > before

    await wait_until(refused_once_more)
    answer = (await client.get("/recommend", params={"user_id": "u0"})).json()
    assert (answer["index_version"], answer["degraded"]) == ("first", False)
    rolled_back = await client.post("/versions/rollback", json={"reason": "not everybody reads it"})
    assert rolled_back.json()["version"] == "first"
    promote(registry, "second", actor="test", reason="of our release")

    async def served() -> bool:
        return bool((await client.get("/recommend")).json()["index_version"] == "second")

    await wait_until(served)


async def test_a_replica_that_starts_on_it_answers_from_the_version_before_it_and_says_so(
    settings: AppSettings, registry: ModelRegistry, foreign: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    promote_elsewhere(tmp_path, foreign)
    async with client_of(create_app(settings)) as client:
        health = (await client.get("/health/ready")).json()
        assert health["index_version"] == "first"
        assert foreign in health["fallback"]
        assert ("train anew" in health["fallback"]) == (foreign == "format-2")
        promote(registry, "second", actor="test", reason="of our release")

        async def follows() -> bool:
            health = (await client.get("/health/ready")).json()
            return health["index_version"] == "second" and "fallback" not in health

        await wait_until(follows)


async def test_a_replica_that_starts_on_nothing_else_is_not_ready_until_there_is_one_it_reads(
    settings: AppSettings, registry: ModelRegistry, foreign: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    shutil.rmtree(tmp_path / "registry" / "models" / "recommender" / "aliases")
    promote_elsewhere(tmp_path, foreign)
    async with client_of(create_app(settings)) as client:
        for path in ("/health/ready", "/recommend"):
            refusal = await client.get(path)
            assert refusal.status_code == 503
            assert foreign in refusal.json()["detail"]
        promote(registry, "second", actor="test", reason="of our release")

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await wait_until(ready)


async def test_consumers_fold_into_what_they_read_and_leave_the_rest(
    settings: AppSettings, registry: ModelRegistry, foreign: str, tmp_path: Path
) -> None:
    promote_elsewhere(tmp_path, foreign, "canary")
    stores = open_stores(settings.store)
    versions = VersionsInService(settings.registry, stores.notifications, 60.0)
    await versions.refresh()
    await stores.aclose()
    assert [index.version for index in versions.indexes] == ["first"]


async def test_a_move_with_words_that_we_do_not_know_is_followed(
    client: httpx.AsyncClient, registry: ModelRegistry, settings: AppSettings, tmp_path: Path, wait_until: WaitUntil
) -> None:
    move = {
        "alias": "live",
        "version": "second",
        "sequence": 2,
        "moved_at": datetime.now(UTC),
        "actor": "a later release",
        "reason": "test",
        "approved_by": ["ada"],
    }
    (tmp_path / "registry" / "models" / "recommender" / "aliases" / "live" / "00000002.json").write_bytes(
        msgspec.json.encode(move)
    )
    stores = open_stores(settings.store)
    await stores.notifications.send(VERSIONS_CHANNEL)
    await stores.aclose()

    async def served() -> bool:
        return bool((await client.get("/recommend")).json()["index_version"] == "second")

    await wait_until(served)


async def test_a_replica_that_starts_on_the_layout_of_an_earlier_release_says_so_until_a_version_is_trained_anew(
    settings: AppSettings, registry: ModelRegistry, tmp_path: Path, wait_until: WaitUntil
) -> None:
    folder = tmp_path / "registry"
    (folder / "models" / "recommender").rename(tmp_path / "ours")
    shutil.copytree(tmp_path / "ours" / "aliases", folder / "aliases")
    shutil.copytree(tmp_path / "ours" / "versions", folder / "versions")
    (folder / "models").rmdir()
    async with client_of(create_app(settings)) as client:
        for path in ("/health/ready", "/recommend", "/versions"):
            refusal = await client.get(path)
            assert refusal.status_code == 503
            assert "train anew" in refusal.json()["detail"]
        assert "versions/ and aliases/ of an earlier release" in refusal.json()["detail"], (
            "operators get the whole of it"
        )
        publish_small_version(registry, tmp_path / "built", "third")
        promote(registry, "third", actor="test", reason="trained anew")

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await wait_until(ready)
        assert (folder / "aliases" / "live").is_dir(), "replicas of the earlier release serve on"
