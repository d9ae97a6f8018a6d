"""What operators do with versions. Rollback is a promote of the previous version: there is no second path."""

from recsys.errors import Conflict
from recsys.index_registry.protocol import IndexRegistry
from recsys.index_version import LIVE, AliasMove


def promote(registry: IndexRegistry, version: str, *, actor: str, reason: str, alias: str = LIVE) -> AliasMove:
    """Point `alias` at `version`; a version that is there already moves nothing. Raises `NotFound`, `Conflict`."""
    current = registry.alias(alias)
    if current is not None and current.version == version:
        return current
    return registry.move_alias(alias, version, actor=actor, reason=reason)


def rollback(registry: IndexRegistry, *, actor: str, reason: str, alias: str = LIVE) -> AliasMove:
    """Promote the version before the current one. Raises `Conflict` when there is none."""
    earlier = previous(registry, alias)
    if earlier is None:
        raise Conflict(f"there is no version before the current one to roll {alias!r} back to")
    return promote(registry, earlier, actor=actor, reason=f"rollback: {reason}", alias=alias)


def previous(registry: IndexRegistry, alias: str = LIVE) -> str | None:
    """The version that a rollback of `alias` would bring back, if one still exists.

    A move back to an earlier version undoes all that came after it: after A, B, C and a rollback to B, the
    next rollback goes on to A, never forward to the C that was just found wanting.
    """
    path: list[str] = []
    for move in registry.history(alias):
        path = path[: path.index(move.version)] if move.version in path else path
        path.append(move.version)
    existing = {manifest.version for manifest in registry.versions()}
    return next((version for version in reversed(path[:-1]) if version in existing), None)


def versions_in_service(registry: IndexRegistry, alias: str = LIVE) -> list[str]:
    """The version that answers and the one a rollback would bring back: both need fresh embeddings."""
    current = registry.alias(alias)
    if current is None:
        return []
    earlier = previous(registry, alias)
    return [current.version] if earlier is None else [current.version, earlier]


def aliases_of(registry: IndexRegistry) -> dict[str, str]:
    """What each known alias points at, and `previous` for what a rollback would bring back."""
    current = registry.alias(LIVE)
    pointed = {LIVE: current.version} if current else {}
    earlier = previous(registry)
    return pointed | ({"previous": earlier} if earlier else {})


def prune(registry: IndexRegistry, keep: int) -> list[str]:
    """Delete all but the newest `keep` versions, never one in service; the versions deleted, oldest first."""
    kept = set(versions_in_service(registry))
    candidates = [one.version for one in registry.versions()]
    newest = set(candidates[-keep:]) if keep > 0 else set()
    doomed = [version for version in candidates if version not in kept | newest]
    for version in doomed:
        registry.delete(version)
    return doomed
