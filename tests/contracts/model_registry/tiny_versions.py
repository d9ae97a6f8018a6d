"""Versions of a few bytes, for tests of the model registry that do not look inside."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from recsys.models.kinds import ConfidenceParameters, Kind, RecommenderSection, described
from recsys.models.manifest import FileEntry, Manifest, Provenance
from recsys.stores.model_registry import ModelRegistry

START = datetime(2026, 1, 1, tzinfo=UTC)
FILES = {"item_factors.npy": b"\x93NUMPY" * 1000, "items.faiss": bytes(range(256)) * 21_000, "empty.npy": b""}


class Publish(Protocol):
    """Writes a version made on a day after `START`."""

    def __call__(
        self, registry: ModelRegistry, version: str, day: int = 0, files: dict[str, bytes] = ...
    ) -> Manifest: ...


def write_files(directory: Path, files: dict[str, bytes]) -> dict[str, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return {name: directory / name for name in files}


def manifest_of(version: str, files: dict[str, bytes] = FILES, day: int = 0) -> Manifest:
    section = RecommenderSection(
        algorithm="als",
        dimensions=64,
        items=10,
        users=20,
        log_version=3,
        watermark=START,
        confidence=ConfidenceParameters(alpha=40.0, regularization=0.1, reference_ms=0, type_weights={"view": 0.2}),
    )
    return Manifest(
        version=version,
        kind=Kind.RECOMMENDER,
        created_at=START + timedelta(days=day),
        provenance=Provenance(code_version="0.1.0"),
        section=described(section),
        files={n: FileEntry(sha256=sha256(content).hexdigest(), size=len(content)) for n, content in files.items()},
        parameters={"factors": 64},
        metrics={"recall@20": 0.27},
    )
