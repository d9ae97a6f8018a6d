"""The model registry: whether it can be read and written, what is in it, and where its aliases point."""

import asyncio
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from millirec.checkup.finding import Finding, fine, note, wrong
from millirec.settings import Settings
from recsys.errors import Conflict, CorruptArtefact, NotFound, RegistryOutdated, RegistryUnavailable
from recsys.models.alias_move import CANARY, LIVE, PIN, SHADOW, AliasMove, in_service
from recsys.models.manifest import RECOMMENDER, check_format
from recsys.scratch import scratch_folder
from recsys.stores.leases import open_lease
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import named_earlier
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
        models = dict.fromkeys((RECOMMENDER, *registry.models()))
        findings = [finding for model in models for finding in _model(registry.of(model), deep=deep)]
        _try_to_write(settings)
    except RegistryOutdated as error:
        todo = "Train anew into the same place (millirec train --promote): replicas of the earlier release serve on."
        return [wrong(NAME, str(error), todo, "registry-outdated")]
    except RegistryUnavailable as error:
        where = url if "://" in url else str(Path(url).resolve())
        todo = f"It is looked for at {where}; MILLIREC_REGISTRY__URL sets it, the environment its credentials."
        return [wrong(NAME, str(error), todo, "registry-away")]
    return findings


def _model(registry: ModelRegistry, *, deep: bool) -> list[Finding]:
    """Return what is found of one model; of any but the recommender, each finding is named after it."""
    findings = [_contents(registry), *_left_behind(registry), *_aliases(registry)]
    findings += _files(registry) if deep else []
    if registry.model == RECOMMENDER:
        return findings
    return [msgspec.structs.replace(finding, check=f"{finding.check} of {registry.model}") for finding in findings]


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
    if in_service(alias):
        try:
            check_format(move.version, manifest.format_version)
        except CorruptArtefact as error:
            yield wrong(name, str(error), f"Upgrade replicas and consumers; until then: {away}", section)
    if alias in (CANARY, SHADOW):
        yield from _rollout(name, move, away)


def _rollback(registry: ModelRegistry) -> Iterator[Finding]:
    for version in named_earlier(registry)[:1]:
        try:
            check_format(version, registry.manifest(version).format_version)
        except NotFound:
            return
        except CorruptArtefact as error:
            todo = "Train and promote once more: then there is one to go back to."
            yield note("alias previous", f"a rollback cannot bring back {version}: {error}", todo, "version-refused")


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
    from recsys.opening import try_version

    versions = registry.versions()
    sound = 0
    for manifest in versions:
        with scratch_folder("doctor") as folder:
            try:
                try_version(registry.fetch(manifest.version, folder), manifest)
                sound += 1
            except (CorruptArtefact, NotFound) as error:
                todo = "Never mend a version: roll back where it is live, train a new one, and prune this one."
                yield wrong(f"version {manifest.version}", str(error), todo, "version-refused")
    if sound == len(versions):
        yield fine("files", f"every file of {sound} versions is what its manifest says, and each version opens")
