"""What operators do with versions. Rollback is a promote of the previous version: there is no second path."""

from recsys.errors import Conflict
from recsys.models.alias_move import LIVE, PIN, PREVIOUS, AliasMove, in_service
from recsys.stores.model_registry.protocol import ModelRegistry


def promote(registry: ModelRegistry, version: str, *, actor: str, reason: str, alias: str = LIVE) -> AliasMove:
    """Point `alias` at `version`; a version that is there already moves nothing.

    Raises `NotFound`, `Conflict`, and `CorruptArtefact` for a version that cannot be opened.
    """
    current = registry.alias(alias)
    if current is not None and current.version == version:
        return current
    return registry.move_alias(alias, version, actor=actor, reason=reason)


def rollback(registry: ModelRegistry, *, actor: str, reason: str, alias: str = LIVE) -> AliasMove:
    """Promote the version before the current one. Raises `Conflict` when there is none, else as `promote`."""
    version = previous(registry, alias)
    if version is None:
        raise Conflict(f"there is no version before the current one to roll {alias!r} back to")
    return promote(registry, version, actor=actor, reason=f"rollback: {reason}", alias=alias)


def previous(registry: ModelRegistry, alias: str = LIVE) -> str | None:
    """The version that a rollback of `alias` would bring back, if one still exists."""
    return next(iter(earlier(registry, alias)), None)


def earlier(registry: ModelRegistry, alias: str = LIVE) -> list[str]:
    """The versions that one rollback of `alias` after another would bring back, of those that still exist."""
    existing = {manifest.version for manifest in registry.versions()}
    return [version for version in named_earlier(registry, alias) if version in existing]


def named_earlier(registry: ModelRegistry, alias: str = LIVE) -> list[str]:
    """The versions that `alias` named and went on from, the newest first, whether or not they exist or can be read.

    A move back to an earlier version undoes all that came after it: after A, B, C and a rollback to B, the
    next rollback goes on to A, never forward to the C that was just found wanting.
    """
    path: list[str] = []
    for move in registry.history(alias):
        if move.cleared:
            continue
        path = path[: path.index(move.version)] if move.version in path else path
        path.append(move.version)
    return path[-2::-1]


def pin(registry: ModelRegistry, version: str, *, actor: str, reason: str) -> AliasMove:
    """Keep `version` from being deleted. Raises `NotFound`, `Conflict`."""
    return promote(registry, version, actor=actor, reason=reason, alias=f"{PIN}{version}")


def unpin(registry: ModelRegistry, version: str, *, actor: str, reason: str) -> AliasMove:
    """Take the pin back. Raises `NotFound` where there is none, `Conflict`."""
    return registry.move_alias(f"{PIN}{version}", None, actor=actor, reason=reason)


def versions_in_service(registry: ModelRegistry) -> list[str]:
    """The live version first, then what a rollback would bring back and what the other aliases in service point at.

    All of them need fresh embeddings.
    """
    pointed = aliases_of(registry)
    first = [pointed.get(LIVE), pointed.get(PREVIOUS)]
    others = [version for alias, version in pointed.items() if in_service(alias)]
    return list(dict.fromkeys(version for version in (*first, *others) if version is not None))


def aliases_of(registry: ModelRegistry) -> dict[str, str]:
    """The version that each alias points at; `previous` is the one that a rollback would bring back."""
    pointed = {alias: move.version for alias, move in registry.aliases().items()}
    version = previous(registry) if LIVE in pointed else None
    return pointed | ({PREVIOUS: version} if version else {})
