"""IndexVersion words: the manifest that describes a version and the alias moves that put it in service."""

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_hex
from typing import Annotated, Any

import msgspec

from recsys.experiments.rollout import Rollout
from recsys.messages.interaction import to_the_end

FORMAT_VERSION = 2
"""Of the artefact's files. A reader refuses a manifest whose format it does not know."""

VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ALIAS_PATTERN = r"^[a-z][a-z0-9_-]{0,31}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$"
LIVE = "live"
PREVIOUS = "previous"
"""Derived from the moves of `live`: what a rollback would bring back."""
CANDIDATE = "candidate"
CANARY = "canary"
SHADOW = "shadow"
PLACEMENT = "placement:"
"""Before the name of a placement: the version that this placement is to be answered from."""
PIN = "pin:"
"""Before a version: it is to be kept."""

DELETED = "deleted:"
"""Before a version: nothing but the entry that says who deleted it, when and why."""

VersionId = Annotated[str, msgspec.Meta(pattern=to_the_end(VERSION_PATTERN))]
Alias = Annotated[str, msgspec.Meta(pattern=to_the_end(ALIAS_PATTERN))]
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version: lower-case hex SHA-256 and size in bytes."""

    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a version; written last, so a version without one does not exist.

    `parameters` and `metrics` are flat enough to print. `log_version` is the interaction log's table
    version that was learned from and `watermark` the newest event time in it.
    """

    version: VersionId
    created_at: Timestamp
    algorithm: str
    dimensions: int
    items: int
    users: int
    log_version: int
    watermark: Timestamp
    code_version: str
    files: dict[str, FileEntry]
    parameters: dict[str, Any]
    metrics: dict[str, float]
    format_version: int = FORMAT_VERSION


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an alias's append-only history; `sequence` counts from 1.

    `cleared`: from here on the alias points nowhere; `version` is the one it left. `rollout`, of a canary or shadow:
    which requests it gets.
    """

    alias: Alias
    version: VersionId
    sequence: int
    moved_at: Timestamp
    actor: str
    reason: str
    cleared: bool = False
    rollout: Rollout | None = None


def in_service(alias: str) -> bool:
    """Return whether the version that `alias` points at answers requests, or is compared on them (shadow)."""
    return alias != CANDIDATE and not alias.startswith(PIN)


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
