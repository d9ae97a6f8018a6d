"""`millirec versions` as operators use it, on two small versions; moves of real replicas are in the journeys."""

import json
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from millirec.commands import versions
from millirec.terminal import console
from millirec.version_diff import diff_versions
from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound
from recsys.index.artefact import IndexContents, file_entries, write_artefact
from recsys.models.manifest import Manifest
from recsys.opening import fetch_recommender
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import promote
from tests.environment.versions import publish_small_version


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """Versions `first`, which is live, and `second`, of the same tastes in another factor space."""
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", str(tmp_path / "registry"))
    monkeypatch.setenv("MILLIREC_REGISTRY__CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MILLIREC_STORE__BACKEND", "memory")
    monkeypatch.setattr(console, "width", 200)
    opened = open_model_registry(RegistrySettings(url=str(tmp_path / "registry")))
    for seed, version in enumerate(("first", "second")):
        publish_small_version(opened, tmp_path / "built", version, seed)
    promote(opened, "first", actor="ada", reason="start")
    return opened


def run(*arguments: str) -> Result:
    return CliRunner().invoke(versions.app, arguments)


def printed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def answered(*arguments: str) -> Any:
    return json.loads(printed(*arguments, "--json"))


def test_a_version_is_shown_for_people_and_for_programs(registry: ModelRegistry) -> None:
    told = printed("show")
    for words in ("first", "pointed at by  live", "40 items, 20 users", "recall@20", "confidence.alpha"):
        assert words in told
    assert msgspec.convert(answered("show", "live"), Manifest) == registry.manifest("first")
    assert [(one["version"], one["aliases"]) for one in answered("list")] == [("first", ["live"]), ("second", [])]
    assert isinstance(run("show", "third").exception, NotFound)


def test_the_checks_of_the_gate_are_in_json_and_not_in_a_cell(registry: ModelRegistry, tmp_path: Path) -> None:
    manifest = tmp_path / "registry" / "models" / "recommender" / "versions" / "second" / "manifest.json"
    made = msgspec.json.decode(manifest.read_bytes())
    made["parameters"]["checks"] = [{"name": "recall@20", "passed": True}]
    manifest.write_bytes(msgspec.json.encode(made))
    for command in (("show", "second"), ("diff", "first", "second")):
        assert "checks" not in printed(*command)
        assert "checks" in answered(*command)["parameters"]


def test_aliases_are_moved_and_cleared_and_one_history_tells_of_it(registry: ModelRegistry) -> None:
    assert "canary -> second" in printed("promote", "second", "--alias", "canary", "-r", "try [it]")
    assert "canary -> nowhere" in printed("clear", "canary", "-r", "seen enough")
    printed("promote", "second", "--alias", "placement:home", "-r", "for home")
    assert registry.aliases()["placement:home"].version == "second"
    told = printed("history")
    for words in ("start", "try [it]", "left second", "seen enough", "placement:home"):
        assert words in told
    assert [move["reason"] for move in answered("history", "canary")] == ["try [it]", "seen enough"]
    assert isinstance(run("clear", "live", "-r", "no").exception, InvalidInput)
    assert isinstance(run("promote", "second", "--alias", "Canary", "-r", "no").exception, InvalidInput)


def test_a_pinned_version_outlives_a_prune(registry: ModelRegistry) -> None:
    printed("pin", "second", "-r", "the audit wants it")
    assert "nothing to delete" in printed("prune", "--keep", "0")
    assert isinstance(run("unpin", "first", "-r", "no pin").exception, NotFound)
    printed("unpin", "second", "-r", "audited")
    assert "would delete 1: second" in printed("prune", "--keep", "0", "--dry-run")
    assert "nothing to delete" in printed("prune", "--keep", "0", "--older-than", "9999w")
    assert "deleted 1: second" in printed("prune", "--keep", "0")
    assert [move["alias"] for move in answered("history")] == ["live", "pin:second", "pin:second", "deleted:second"]
    assert answered("history")[-1]["reason"] == "prune --keep 0 --older-than 0m"
    assert "deleted second" in printed("history")
    assert isinstance(run("prune", "--older-than", "long").exception, InvalidInput)


def test_leftovers_are_collected_once_they_are_old_enough(registry: ModelRegistry, tmp_path: Path) -> None:
    left = tmp_path / "registry" / "models" / "recommender" / "versions" / "half"
    left.mkdir()
    (left / "a.npy").write_bytes(b"half")
    assert "nothing to delete" in printed("collect")
    assert "would delete 1: half" in printed("collect", "--older-than", "0m", "--dry-run")
    assert "deleted 1: half" in printed("collect", "--older-than", "0m")
    assert not list(left.glob("*"))


def test_a_version_is_taken_to_another_registry_by_a_file(
    registry: ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "first.tar.zst")
    printed("export", "first", file)
    assert isinstance(run("import", file).exception, Conflict)
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", str(tmp_path / "elsewhere"))
    assert "published first" in printed("import", file)
    assert [one["version"] for one in answered("list")] == ["first"]
    Path(file).write_bytes(Path(file).read_bytes()[:-9])
    assert isinstance(run("import", file).exception, CorruptArtefact)


# diff


def publish_variant(registry: ModelRegistry, directory: Path, like: str, version: str) -> None:
    """`like` with items `i0` to `i9` gone and `n0` to `n4` new, factors of the others twice as long, alpha 20."""
    index = fetch_recommender(registry, like, directory / "cache").index
    kept = np.arange(10, len(index))
    ids = [*index.item_id.ids(kept), *(f"n{n}" for n in range(5))]
    factors = np.concatenate([2 * index.item_factors[kept], index.item_factors[:5]])
    contents = IndexContents(
        item_ids=ids,
        item_factors=factors,
        popularity=np.arange(len(ids), 0, -1, dtype=np.float32),
        user_ids=[f"u{n}" for n in range(10, 30)],
        user_factors=np.ones((20, factors.shape[1]), np.float32),
        items=[None] * len(ids),
    )
    search_index = faiss.IndexFlatIP(factors.shape[1])
    search_index.add(factors)
    files = write_artefact(directory / version, contents, search_index)
    confidence = index.manifest.section["confidence"]
    manifest = msgspec.structs.replace(
        index.manifest,
        version=version,
        section=index.manifest.section | {"items": len(ids), "confidence": confidence | {"alpha": 20.0}},
        files=file_entries(files),
        metrics={"recall@20": 0.6, "coverage": 0.9},
    )
    registry.publish(manifest, files)


def test_a_version_differs_in_nothing_from_itself(registry: ModelRegistry, tmp_path: Path) -> None:
    settings = RegistrySettings(cache=tmp_path / "cache")
    found = diff_versions(registry, settings, "first", "first", users=100, k=10)
    assert found.parameters == {}
    assert found.items is not None
    assert (found.items.common, found.items.gained, found.items.lost) == (40, 0, 0)
    assert found.overlap is not None
    assert found.norms is not None
    assert (found.overlap.users, found.overlap.mean, found.overlap.identical) == (20, 1.0, 1.0)
    assert (found.norms.p5, found.norms.median, found.norms.p95) == (1.0, 1.0, 1.0)


def test_tastes_that_stayed_overlap_although_the_factor_space_was_turned(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    found = diff_versions(registry, RegistrySettings(cache=tmp_path / "cache"), "first", "second", users=100, k=20)
    assert found.overlap is not None
    assert 0.8 < found.overlap.mean < 1.0, "the twenty items of a user's taste but for one, in another order"
    assert found.overlap.identical == 0.0


def test_a_diff_says_what_was_gained_and_lost_and_how_long_factors_are(registry: ModelRegistry, tmp_path: Path) -> None:
    publish_variant(registry, tmp_path, "first", "third")
    found = answered("diff", "live", "third", "-k", "5", "--users", "7")
    assert found["metrics"] == {"recall@20": [0.5, 0.6], "coverage": [None, 0.9]}
    assert found["parameters"] == {"confidence.alpha": [10.0, 20.0], "items": [40, 35]}
    assert (found["items"]["common"], found["items"]["gained"], found["items"]["lost"]) == (30, 5, 10)
    assert found["items"]["gained_examples"] == [f"n{n}" for n in range(5)]
    assert found["items"]["lost_examples"] == [f"i{n}" for n in range(10)]
    assert found["norms"]["median"] == pytest.approx(2.0)
    assert (found["overlap"]["k"], found["overlap"]["users"], found["overlap"]["known_to_both"]) == (5, 7, 10)
    told = printed("diff", "live", "third")
    for words in ("coverage", "confidence.alpha", "30 in both, 5 gained, 10 lost", "overlap@20", "median 2.000"):
        assert words in told
    assert answered("diff", "live", "third", "--users", "0")["overlap"] is None
