"""Which versions may go: old ones that nothing points at."""

from datetime import UTC, datetime, timedelta

from recsys.stores.model_registry.aliases import aliases_of
from recsys.stores.model_registry.protocol import ModelRegistry

UPLOAD_PATIENCE = timedelta(days=1)
"""An upload that has written nothing for so long is not in progress."""


def prunable(
    registry: ModelRegistry, keep: int, older_than: timedelta = timedelta(0), *, now_time: datetime | None = None
) -> list[str]:
    """Versions, oldest first, that are not among the newest `keep`, were made more than `older_than` ago, and that no
    alias points at: none in service, none that a rollback would bring back, no candidate, none that is pinned."""
    aliased_versions = set(aliases_of(registry).values())
    cutoff = (now_time or datetime.now(UTC)) - older_than
    manifests = registry.versions()
    old = manifests[: max(len(manifests) - keep, 0)]
    return [
        manifest.version
        for manifest in old
        if manifest.created_at < cutoff and manifest.version not in aliased_versions
    ]


def prune(
    registry: ModelRegistry, keep: int, older_than: timedelta = timedelta(0), *, actor: str, reason: str
) -> list[str]:
    """Delete what is prunable; the versions deleted. Raises `Conflict` for one that is promoted at this moment."""
    to_delete = prunable(registry, keep, older_than)
    for version in to_delete:
        registry.delete(version, actor=actor, reason=reason)
    return to_delete


def collect(
    registry: ModelRegistry,
    older_than: timedelta = UPLOAD_PATIENCE,
    *,
    dry_run: bool = False,
    now_time: datetime | None = None,
) -> list[str]:
    """Remove uploads that never came to their end and were last written to more than `older_than` ago."""
    return registry.collect((now_time or datetime.now(UTC)) - older_than, dry_run=dry_run)
