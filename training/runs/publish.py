"""Publish: from item factors to an index version, on disk for evaluation or in the registry for good."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recsys.index.artefact import file_entries, write_artefact
from recsys.models.kinds import Kind, RecommenderSection, described
from recsys.models.manifest import Manifest, new_version_id
from recsys.stores.model_registry import ModelRegistry
from training.provenance import provenance
from training.recommender.assemble import FactorModel, assemble
from training.recommender.index_build import build_search_index
from training.runs.context import RunContext


def write_version(
    context: RunContext,
    directory: Path,
    model: FactorModel,
    *,
    metrics: dict[str, float],
    notes: dict[str, Any],
    tune: bool = True,
) -> tuple[Manifest, dict[str, Path]]:
    """Write the files of a version of `model`; `notes` are added to the manifest's parameters.

    Without `tune` it is searched exactly: a version used only for evaluation need not be fast.
    """
    settings, dataset = context.settings, context.dataset
    contents, notes_on = assemble(settings, context.algorithm, dataset, model, context.progress)
    built = build_search_index(
        contents.item_factors, contents.user_factors[: None if tune else 0], settings.index, context.progress
    )
    files = write_artefact(directory, contents, built.index)
    section = RecommenderSection(
        algorithm=context.algorithm.name,
        dimensions=contents.item_factors.shape[1],
        items=len(contents.item_ids),
        users=len(contents.user_ids),
        log_version=dataset.log_version,
        watermark=dataset.watermark,
        confidence=model.confidence,
        search=built.spec,
    )
    manifest = Manifest(
        version=new_version_id(),
        kind=Kind.RECOMMENDER,
        created_at=datetime.now(UTC),
        provenance=provenance(dataset.interactions),
        files=file_entries(files),
        section=described(section),
        parameters={
            "training": settings.model_dump(mode="json", exclude={"reports"})
            | {"parameters": context.algorithm.parameters.model_dump(mode="json")},
            **built.parameters(),
            **notes_on,
            **notes,
        },
        metrics=metrics,
    )
    return manifest, files


def publish(registry: ModelRegistry, manifest: Manifest, files: dict[str, Path]) -> None:
    """Publish the version in the registry. Raises `Conflict`, `RegistryUnavailable`."""
    registry.publish(manifest, files)
