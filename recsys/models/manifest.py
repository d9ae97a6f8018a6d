"""Manifest: the header that every version of every kind of model has, and all that the registry knows of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_hex
from typing import Annotated, Any

import msgspec

from recsys.errors import CorruptArtefact, OutdatedArtefact
from recsys.messages.interaction import to_the_end

FORMAT_VERSION = 3
"""Of manifests and of the files they name. Older ones are refused; so is a newer one when it is opened."""

RECOMMENDER = "recommender"
"""The model that answers `/recommend`, and the one that is meant where none is named."""

MODEL_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
KIND_PATTERN = r"^[a-z][a-z_]{0,31}$"

ModelName = Annotated[str, msgspec.Meta(pattern=to_the_end(MODEL_PATTERN))]
VersionId = Annotated[str, msgspec.Meta(pattern=to_the_end(VERSION_PATTERN))]
KindName = Annotated[str, msgspec.Meta(pattern=to_the_end(KIND_PATTERN))]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version: lower-case hex SHA-256 and size in bytes."""

    sha256: str
    size: int


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version comes from: the code, packages and machine that made it, and the `data` it was learned from.

    `data` holds at least a digest where the version was trained; it says nothing about single rows.
    """

    code_version: str
    packages: dict[str, str] = {}
    machine: dict[str, Any] = {}
    data: dict[str, Any] = {}


class GateVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the quality gate said: `reasons` against the version; `forced`: published in spite of them.

    `checks` are its measurements: `name`, `setting`, `measured`, `limit`, `passed`.
    """

    passed: bool
    reasons: list[str] = []
    forced: bool = False
    checks: list[dict[str, Any]] = []


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a version; written last, so a version without one does not exist.

    `section` is what only this `kind` has (`recsys.models.kinds`). `parameters` and `metrics` are flat enough to
    print. `verdict` is `None` where no gate was asked.
    """

    model: ModelName = RECOMMENDER
    version: VersionId
    kind: KindName
    created_at: Timestamp
    provenance: Provenance
    files: dict[str, FileEntry]
    parameters: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    verdict: GateVerdict | None = None
    section: dict[str, Any]
    format_version: int = FORMAT_VERSION

    @property
    def size(self) -> int:
        """The bytes of all files together."""
        return sum(entry.size for entry in self.files.values())


def check_format(version: str, format_version: int) -> None:
    """Raise `CorruptArtefact`, saying what to do, unless this release reads the format."""
    if format_version == FORMAT_VERSION:
        return
    text = f"version {version} has artefact format {format_version}, this release reads {FORMAT_VERSION}"
    if format_version < FORMAT_VERSION:
        raise OutdatedArtefact(f"{text}: train anew (millirec train), it cannot be converted")
    raise CorruptArtefact(f"{text}: a later release wrote it, upgrade this one")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters by dotted names."""
    parameters: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        parameters |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return parameters


def new_version_id(created_at: datetime | None = None) -> str:
    """Sorts by time and does not collide: `20101209-134502-9f3a1c`."""
    moment = (created_at or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{token_hex(3)}"
