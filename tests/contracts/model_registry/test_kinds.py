"""Every kind of model under one registry: what is done with a predictor moves nothing of the recommender beside it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from recsys.clients.objects import Objects
from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound, RegistryOutdated
from recsys.models.kinds import (
    Feature,
    ImageClassifierSection,
    Kind,
    PredictorSection,
    Section,
    described,
    section_of,
    summary_of,
)
from recsys.models.manifest import Manifest
from recsys.opening import OnnxModel, open_recommender, open_version, proof_in
from recsys.stores.model_registry.aliases import aliases_of, pin, promote, rollback, unpin
from recsys.stores.model_registry.archive import export_version, import_version
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.pruning import prune
from recsys.stores.model_registry.rollouts import advance_canary, start_canary, start_shadow, stop
from tests.contracts.model_registry.tiny_versions import Publish, manifest_of, write_files

WHO: dict[str, Any] = {"actor": "test", "reason": "test"}
MODEL = {"model.onnx": b"not opened here"}
CHURN = PredictorSection(
    task="binary",
    target="churned",
    features=(Feature(name="recency", type="number", low=0.0, high=400.0), Feature(name="country", type="category")),
    classes=("stays", "leaves"),
    threshold=0.3,
)
PHOTOS = ImageClassifierSection(
    classes=("mug", "lamp"), width=224, height=224, mean=(127.0, 127.0, 127.0), deviation=(128.0, 128.0, 128.0)
)


def manifest(version: str, section: Section, kind: str, day: int = 0, model: str = "churn") -> Manifest:
    plain = manifest_of(version, MODEL, day)
    return msgspec.structs.replace(plain, model=model, kind=kind, section=described(section), metrics={"auc": 0.8})


@pytest.fixture
def recommender(registry: ObjectStoreModelRegistry, publish: Publish) -> ObjectStoreModelRegistry:
    """A recommender with a live version, one to go back to and one that is pinned."""
    for day, version in enumerate(("v1", "v2", "v3")):
        publish(registry, version, day)
    promote(registry, "v1", **WHO)
    promote(registry, "v2", **WHO)
    pin(registry, "v3", **WHO)
    return registry


@pytest.fixture
def churn(recommender: ObjectStoreModelRegistry, tmp_path: Path) -> ObjectStoreModelRegistry:
    """The predictor `churn`, versions `v1` to `v4` (as the recommender's are named), beside the recommender."""
    registry = recommender.of("churn")
    files = write_files(tmp_path / "onnx", MODEL)
    for day in range(4):
        registry.publish(manifest(f"v{day + 1}", CHURN, Kind.PREDICTOR, day), files)
    return registry


@pytest.fixture(autouse=True)
def nothing_of_the_recommender_has_changed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test with a predictor: versions, aliases and history of the recommender are what they were."""
    if "churn" not in request.fixturenames:
        yield
        return
    recommender: ObjectStoreModelRegistry = request.getfixturevalue("recommender")
    request.getfixturevalue("churn")
    before = recommender.versions(), recommender.aliases(), recommender.history()
    yield
    assert (recommender.versions(), recommender.aliases(), recommender.history()) == before


def test_models_are_listed_and_each_has_versions_of_its_own(
    churn: ObjectStoreModelRegistry, recommender: ObjectStoreModelRegistry
) -> None:
    assert recommender.models() == churn.models() == ["churn", "recommender"]
    assert {(entry.model, entry.kind) for entry in churn.versions()} == {("churn", Kind.PREDICTOR)}
    assert {(entry.model, entry.kind) for entry in recommender.versions()} == {("recommender", Kind.RECOMMENDER)}
    assert section_of(churn.manifest("v1"), PredictorSection) == CHURN
    assert summary_of(churn.manifest("v1")) == "binary of churned from 2 features"


def test_a_predictor_is_promoted_and_rolled_back(churn: ObjectStoreModelRegistry) -> None:
    moves = [promote(churn, version, **WHO) for version in ("v1", "v2")]
    assert [(move.model, move.version) for move in moves] == [("churn", "v1"), ("churn", "v2")]
    assert rollback(churn, **WHO).version == "v1"
    assert aliases_of(churn) == {"live": "v1"}
    assert [move.version for move in churn.history("live")] == ["v1", "v2", "v1"]


def test_a_predictor_has_a_canary_and_a_shadow(churn: ObjectStoreModelRegistry) -> None:
    promote(churn, "v1", **WHO)
    start_shadow(churn, "v3", **WHO)
    start_canary(churn, "v2", steps=[0.1], **WHO)
    assert advance_canary(churn, **WHO).alias == "live"
    stop(churn, "shadow", **WHO)
    assert aliases_of(churn) == {"live": "v2", "previous": "v1"}


def test_what_is_pinned_or_in_service_is_not_pruned_and_the_rest_is(churn: ObjectStoreModelRegistry) -> None:
    promote(churn, "v2", **WHO)
    pin(churn, "v1", **WHO)
    assert prune(churn, 1, **WHO) == ["v3"]
    with pytest.raises(Conflict, match="in service"):
        churn.delete("v2")
    unpin(churn, "v1", **WHO)
    assert prune(churn, 1, **WHO) == ["v1"]
    assert [entry.version for entry in churn.versions()] == ["v2", "v4"]
    assert {move.alias for move in churn.history() if move.cleared} == {"pin:v1", "deleted:v1", "deleted:v3"}


def test_an_upload_of_one_model_that_never_ended_is_collected_for_it_alone(churn: ObjectStoreModelRegistry) -> None:
    churn._objects.create("models/churn/versions/half/model.onnx", b"half a mo")
    later = datetime.now(UTC) + timedelta(days=1)
    assert churn.of("recommender").collect(later) == []
    assert churn.collect(later) == ["half"]


def test_a_predictor_goes_to_another_registry_in_one_file(churn: ObjectStoreModelRegistry, tmp_path: Path) -> None:
    exported = export_version(churn, "v1", tmp_path / "cache", tmp_path / "v1.tar")
    elsewhere = MemoryModelRegistry()
    assert import_version(elsewhere, tmp_path / "v1.tar", tmp_path / "scratch") == exported
    assert elsewhere.models() == ["churn"]
    assert elsewhere.of("churn").manifest("v1") == exported
    assert elsewhere.versions() == []


def test_copies_of_versions_with_one_name_lie_apart(
    churn: ObjectStoreModelRegistry, recommender: ObjectStoreModelRegistry, tmp_path: Path
) -> None:
    directory = churn.fetch("v1", tmp_path / "cache")
    assert directory != recommender.fetch("v1", tmp_path / "cache")
    assert (directory / "model.onnx").read_bytes() == MODEL["model.onnx"]


@pytest.mark.parametrize(("kind", "section"), [(Kind.PREDICTOR, CHURN), (Kind.IMAGE_CLASSIFIER, PHOTOS)])
def test_a_version_is_opened_by_its_kind(
    registry: ObjectStoreModelRegistry, tmp_path: Path, kind: Kind, section: PredictorSection | ImageClassifierSection
) -> None:
    published, models = manifest("v1", section, kind, model="other"), registry.of("other")
    models.publish(published, write_files(tmp_path / "onnx", MODEL))
    directory = models.fetch("v1", tmp_path / "cache")
    assert open_version(directory, published) == OnnxModel(published, section, directory / "model.onnx")
    with pytest.raises(CorruptArtefact, match=f"v1 is a {kind}, not a recommender"):
        open_recommender(directory, published)
    proof_in(tmp_path / "cache")(models, "v1")
    astray = msgspec.structs.replace(published, section=published.section | {"model_file": "elsewhere.onnx"})
    with pytest.raises(CorruptArtefact, match=r"without the file elsewhere\.onnx"):
        open_version(directory, astray)


def test_a_kind_of_a_later_release_is_listed_and_moved_but_not_opened(
    churn: ObjectStoreModelRegistry, tmp_path: Path
) -> None:
    directory = churn.fetch("v1", tmp_path / "cache")
    later = msgspec.structs.replace(churn.manifest("v1"), version="v9", kind="forecaster", section={"horizon": 7})
    churn._objects.create("models/churn/versions/v9/manifest.json", msgspec.json.encode(later))
    assert churn.manifest("v9") == later
    assert summary_of(later) == "forecaster"
    with pytest.raises(CorruptArtefact, match="forecaster, which this release does not know"):
        open_version(directory, later)


def test_what_does_not_fit_its_kind_or_model_is_not_published(
    registry: ObjectStoreModelRegistry, tmp_path: Path
) -> None:
    files, right = write_files(tmp_path / "onnx", MODEL), manifest("v1", CHURN, Kind.PREDICTOR)
    wrong: list[tuple[dict[str, object], str]] = [
        ({"kind": "forecaster"}, "kind"),
        ({"kind": Kind.IMAGE_CLASSIFIER}, "section"),
        ({"section": right.section | {"classes": ["one"]}}, "classes"),
        ({"section": right.section | {"threshold": 1.5}}, "threshold"),
        ({"section": right.section | {"target": "recency"}}, "target"),
        ({"model": "spend"}, "model"),
    ]
    for change, field in wrong:
        with pytest.raises(InvalidInput, match=field):
            registry.of("churn").publish(msgspec.structs.replace(right, **change), files)
    assert registry.of("churn").versions() == []


@pytest.mark.parametrize("model", ["", "Churn", "../other", "a/b", "x" * 65])
def test_what_is_no_name_of_a_model_is_refused(registry: ObjectStoreModelRegistry, model: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        registry.of(model)


def test_a_manifest_of_another_model_is_corrupt(churn: ObjectStoreModelRegistry) -> None:
    stolen = churn._objects.get("models/churn/versions/v1/manifest.json") or b""
    churn._objects.create("models/spend/versions/v1/manifest.json", stolen)
    assert churn.of("spend").versions() == []
    with pytest.raises(CorruptArtefact, match="of model churn"):
        churn.of("spend").manifest("v1")


@pytest.mark.parametrize("folder", ["versions/v1/manifest.json", "aliases/live/00000001.json"])
def test_the_layout_of_an_earlier_release_is_named_until_something_is_published_beside_it(
    registry: ObjectStoreModelRegistry, publish: Publish, folder: str, tmp_path: Path
) -> None:
    registry._objects.create(folder, b"{}")
    readers = (
        registry.models,
        registry.versions,
        registry.aliases,
        registry.history,
        lambda: registry.alias("live"),
        lambda: registry.manifest("v1"),
        lambda: registry.fetch("v1", tmp_path / "cache"),
        lambda: registry.of("churn").versions(),
    )
    for read in readers:
        with pytest.raises(RegistryOutdated, match=rf"{folder.partition('/')[0]}/ of an earlier release.*train anew"):
            read()
    publish(registry, "v1")
    promote(registry, "v1", **WHO)
    assert aliases_of(registry) == {"live": "v1"}
    with pytest.raises(NotFound):
        registry.manifest("v2")


def test_what_else_lies_in_the_store_is_no_earlier_layout() -> None:
    objects = Objects("memory:")
    objects.create("placements/home/00000001.json", b"{}")
    objects.create("leases/train/00000001.json", b"{}")
    assert ObjectStoreModelRegistry(objects).versions() == []
