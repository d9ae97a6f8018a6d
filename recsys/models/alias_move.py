"""AliasMove: one entry of the audited history by which the versions of a model come into service."""

from typing import Annotated

import msgspec

from recsys.experiments.rollout import Rollout
from recsys.messages.interaction import to_the_end
from recsys.models.manifest import RECOMMENDER, ModelName, Timestamp, VersionId

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

Alias = Annotated[str, msgspec.Meta(pattern=to_the_end(ALIAS_PATTERN))]


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an alias's append-only history; `sequence` counts from 1.

    `cleared`: from here on the alias points nowhere; `version` is the one it left. `rollout`, of a canary or shadow:
    which requests it gets.
    """

    model: ModelName = RECOMMENDER
    alias: Alias
    version: VersionId
    sequence: int
    moved_at: Timestamp
    actor: str
    reason: str
    cleared: bool = False
    rollout: Rollout | None = None


def in_service(alias: str) -> bool:
    """Whether the version that `alias` points at answers requests, or is compared on them (shadow)."""
    return alias != CANDIDATE and not alias.startswith(PIN)
