"""The model registry: whether it can be read and written, what is in it, and where its aliases point."""

import asyncio
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from millirec.checkup.finding import Finding, fine, note, wrong
from millirec.settings import Settings
from recsys.errors import Conflict, CorruptArtefact, NotFound, RegistryUnavailable
from recsys.models.manifest import CANARY, FORMAT_VERSION, LIVE, PIN, SHADOW, AliasMove, in_service
from recsys.scratch import scratch_folder
from recsys.stores.leases import open_lease
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import previous
from recsys.stores.model_registry.pruning import UPLOAD_PATIENCE

LINGERS = timedelta(days=7)
"""A shadow, or a step of a canary, that has been there for so long was forgotten."""
NAME = "model registry"


async def model_registry(settings: Settings) -> list[Finding]:
    """Check that the registry can be read and written, and that its aliases point at usable versions."""
    return await asyncio.to_thread(_examined, settings, deep=False)


async def deep_registry(settings: Settings) -> list[Finding]:
    """Do the same, and download every version, verify the checksum of each file and open it."""
    return await asyncio.to_thread(_examined, settings, deep=True)


def _examined(settings: Settings, *, deep: bool) -> list[Finding]:
    url = settings.registry.url
    try:
        registry = open_model_registry(settings.registry)
        findings = [_contents(registry), *_left_behind(registry), *_aliases(registry)]
        findings += _files(registry) if deep else []
        _try_to_write(settings)
    except RegistryUnavailable as error:
        where = url if "://" in url else str(Path(url).resolve())
        todo = f"It is looked for at {where}; MILLIREC_REGISTRY__URL sets it, the environment its credentials."
        return [wrong(NAME, str(error), todo, "registry-away")]
    return findings


def _try_to_write(settings: Settings) -> None:
    """Write an object that must not exist yet, as a move of an alias does. Raises `RegistryUnavailable`."""
    lease = open_lease(settings.registry, "doctor", 30.0)
    try:
        lease.release(lease.acquire(f"{platform.node()}:{os.getpid()}"))
    except Conflict:
        return  # somebody else's checkup wrote


def _contents(registry: ModelRegistry) -> Finding:
    versions = registry.versions()
    live = registry.alias(LIVE)
    if live is None:
        if versions:
            text = f"{len(versions)} versions, none of them live"
            todo = f'Put one in service: millirec versions promote {versions[-1].version} -r "..."'
            return wrong(NAME, text, todo, "no-version")
        return note(NAME, "no version yet: train one (millirec train)")
    return fine(NAME, f"read and written; {len(versions)} versions; live is {live.version}")


def _left_behind(registry: ModelRegistry) -> Iterator[Finding]:
    uploads = registry.collect(datetime.now(UTC) - UPLOAD_PATIENCE, dry_run=True)
    if uploads:
        text = f"{len(uploads)} uploads never came to their end: {', '.join(uploads)}"
        yield note("uploads", text, "Nobody sees them; remove them: millirec versions collect", "registry-leftovers")


def _aliases(registry: ModelRegistry) -> Iterator[Finding]:
    moves = registry.aliases()
    findings = [
        *_rollback(registry),
        *(finding for alias, move in moves.items() for finding in _alias(registry, alias, move)),
    ]
    yield from findings or [fine("aliases", ", ".join(sorted(moves)) or "none")]


def _alias(registry: ModelRegistry, alias: str, move: AliasMove) -> Iterator[Finding]:
    name = f"alias {alias}"
    away = 'millirec versions rollback -r "..."' if alias == LIVE else f'millirec versions clear {alias} -r "..."'
    section = "version-refused" if alias == LIVE else "aliases"
    if alias.startswith(PIN):
        away = f'millirec versions unpin {move.version} -r "..."'
    try:
        manifest = registry.manifest(move.version)
    except (NotFound, CorruptArtefact) as error:
        yield wrong(name, f"points at {move.version}, which nobody can load: {error}", f"Move it: {away}", section)
        return
    if manifest.format_version != FORMAT_VERSION and in_service(alias):
        text = f"{move.version} has artefact format {manifest.format_version}, this release reads {FORMAT_VERSION}"
        todo = f"Upgrade what is older, replicas and consumers or the trainer; until then: {away}"
        yield wrong(name, text, todo, section)
    if alias in (CANARY, SHADOW):
        yield from _rollout(name, move, away)


def _rollback(registry: ModelRegistry) -> Iterator[Finding]:
    earlier = previous(registry)
    if earlier is not None and registry.manifest(earlier).format_version != FORMAT_VERSION:
        text = f"a rollback would bring back {earlier}, whose format this release does not read"
        yield note(
            "alias previous", text, "Train and promote once more: then there is one to go back to.", "version-refused"
        )


def _rollout(name: str, move: AliasMove, away: str) -> Iterator[Finding]:
    age = datetime.now(UTC) - move.moved_at
    if move.rollout is None:
        yield note(name, f"{move.version} was put there by hand and answers nobody", f"Clear it: {away}", "aliases")
    elif age > max(LINGERS, timedelta(seconds=2 * move.rollout.step_seconds)):
        text = f"{move.version} has been at {move.rollout.share:.0%} for {age.days} days"
        ask = "canary status" if move.alias == CANARY else "shadow report"
        todo = f'See how it does: millirec {ask}. Then go on, or end it: millirec {move.alias} stop -r "..."'
        yield note(name, text, todo, "aliases")


def _files(registry: ModelRegistry) -> Iterator[Finding]:
    # Here, because it takes the recommender and a second, which no other check needs.
    from recsys.opening import opened

    versions = registry.versions()
    sound = 0
    for manifest in versions:
        with scratch_folder("doctor") as folder:
            try:
                opened(registry.fetch(manifest.version, folder), manifest)
                sound += 1
            except (CorruptArtefact, NotFound) as error:
                todo = "Never mend a version: roll back where it is live, train a new one, and prune this one."
                yield wrong(f"version {manifest.version}", str(error), todo, "version-refused")
    if sound == len(versions):
        yield fine("files", f"every file of {sound} versions is what its manifest says, and each version opens")
