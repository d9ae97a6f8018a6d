"""Publish: from item factors to an index version, on disk for evaluation or in the registry for good."""

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from recsys.index_registry import IndexRegistry
from recsys.index_version import Manifest, new_version_id
from recsys.recommender import Catalogue, ConfidenceParameters, Index, IndexContents, file_entries, write_artefact
from recsys.recommender.factors import Matrix
from training import dataset as data
from training.als import user_factors
from training.index_build import Progress, build_search_index
from training.settings import TrainSettings

PACKAGES = ("implicit", "faiss-cpu", "numpy", "scipy", "polars", "deltalake")


def write_version(
    directory: Path,
    settings: TrainSettings,
    dataset: data.Dataset,
    interactions: pl.DataFrame,
    confidence: ConfidenceParameters,
    item_ids: list[str],
    item_factors: Matrix,
    *,
    metrics: dict[str, float],
    notes: dict[str, Any],
    progress: Progress = lambda *_: None,
) -> tuple[Manifest, dict[str, Path]]:
    """Write the files of a version learned from `interactions`; `notes` join the manifest's parameters."""
    remembered = data.newest_per_user(interactions, settings.history_length)
    users = data.confidence_matrix(remembered, confidence, item_ids)
    vectors = user_factors(users.matrix, item_factors, settings.regularization, settings.threads)
    built = build_search_index(item_factors, vectors, settings.index, progress)
    contents = IndexContents(
        item_ids=item_ids,
        item_factors=item_factors,
        popularity=data.popularity(interactions, item_ids, settings.popularity_days),
        user_ids=users.user_ids,
        user_factors=vectors,
        items=[dataset.items.get(item_id) for item_id in item_ids],
    )
    files = write_artefact(directory, contents, built.index)
    manifest = Manifest(
        version=new_version_id(),
        created_at=datetime.now(UTC),
        algorithm=settings.algorithm.value,
        dimensions=item_factors.shape[1],
        items=len(item_ids),
        users=len(users.user_ids),
        log_version=dataset.log_version,
        watermark=dataset.watermark,
        code_version=package_version("millirec"),
        files=file_entries(files),
        parameters={
            "confidence": msgspec.to_builtins(confidence),
            "training": settings.model_dump(mode="json", exclude={"reports"}),
            **built.parameters(),
            "packages": {name: package_version(name) for name in PACKAGES},
            **notes,
        },
        metrics=metrics,
    )
    return manifest, files


def open_version(directory: Path, manifest: Manifest) -> Catalogue:
    """What `write_version` wrote, opened as the service opens it."""
    return Catalogue.of(Index.open(directory, manifest))


def publish(registry: IndexRegistry, manifest: Manifest, files: dict[str, Path]) -> None:
    """Raises `Conflict`, `RegistryUnavailable`."""
    registry.publish(manifest, files)


def package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
