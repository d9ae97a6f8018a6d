"""The processes that run: which version each answers from or folds into, who is silent, how far consumers are behind.

They report to the feature store every few seconds, each worker for itself; asking a port would reach any one of them.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic

from millirec.checkup.finding import Finding, State, fine, note, wrong
from millirec.settings import Settings
from recsys.errors import RecsysError, StoreUnavailable
from recsys.models.alias_move import LIVE, in_service
from recsys.stores.heartbeats import REPORT_SECONDS, Instance
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import versions_in_service
from recsys.stores.online import open_stores

SERVE = "serve"
GROUPS = ("features", "log")
READ_ITS_LOG = "Its log says why (version refused, registry cannot be read); mend that, or restart it."
AWAY = "millirec versions rollback -r"
MAX_LAG = 10_000
"""Messages, as in the alert MillirecLag."""


async def processes(settings: Settings) -> list[Finding]:
    """Check all running processes; what is out of step is looked at again after each process has reported once more."""
    deadline = monotonic() + 2 * REPORT_SECONDS
    while True:
        try:
            findings = await look(settings)
        except StoreUnavailable:
            return [note("processes", "who runs cannot be told without the feature store", "", "degraded")]
        except RecsysError:
            return [note("processes", "who is out of step cannot be told without the registry", "", "registry-away")]
        if all(finding.state is not State.WRONG for finding in findings) or monotonic() > deadline:
            return findings
        await asyncio.sleep(REPORT_SECONDS / 4)


async def look(settings: Settings) -> list[Finding]:
    """Check all running processes once. Raises `StoreUnavailable`, `RegistryUnavailable`."""
    stores = open_stores(settings.store)
    try:
        instances = await stores.heartbeats.instances()
    finally:
        await stores.aclose()
    if not instances:
        todo = "Start them: millirec serve, millirec consume"
        return [note("processes", "no replica and no consumer runs on this feature store", todo)]
    registry = await asyncio.to_thread(open_model_registry, settings.registry)
    return await asyncio.to_thread(
        lambda: [*replicas(registry, instances), *consumers(registry, instances), *damage(instances)]
    )


def replicas(registry: ModelRegistry, instances: Sequence[Instance]) -> Iterator[Finding]:
    """Yield findings about the workers of the service: silent ones, and those that answer from other versions."""
    serving = [instance for instance in instances if instance.heartbeat.program == SERVE]
    if not serving:
        yield wrong("workers", "consumers run, and no replica", "Start it: millirec serve", "no-version")
        return
    findings = [finding for instance in serving for finding in _replica(registry, instance)]
    versions = sorted({instance.heartbeat.version for instance in serving if instance.heartbeat.version})
    text = f"{len(serving)} answer from {', '.join(versions)}" if versions else f"{len(serving)} wait for a version"
    yield from findings or [fine("workers", text)]


def _replica(registry: ModelRegistry, instance: Instance) -> Iterator[Finding]:
    name = f"worker {instance.heartbeat.process}"
    alias = instance.heartbeat.alias
    move = registry.alias(alias)
    target = None if move is None else move.version
    if instance.silent:
        yield _silent(name, instance, "versions-differ")
    if move is None and instance.heartbeat.version is not None:
        text = f"answers from {instance.heartbeat.version}, and nothing is {alias} in this registry"
        todo = (
            "Is this the registry that it follows (MILLIREC_REGISTRY__URL)? If it was lost, import or train a version."
        )
        yield wrong(name, text, todo, "registry-away")
    if move is not None and instance.heartbeat.version != target:
        since = (datetime.now(UTC) - move.moved_at).total_seconds()
        text = f"answers from {instance.heartbeat.version}; {alias} has been {target} for {since:,.0f} s"
        fallback = instance.heartbeat.fallback
        yield wrong(
            name,
            f"{text}: {fallback}" if fallback else text,
            f'Its log names the file; until that is mended: {AWAY} "..."' if fallback else READ_ITS_LOG,
            "version-refused" if fallback else "versions-differ",
        )
    for version in sorted(_beside(registry) - set(instance.heartbeat.versions)):
        text = f"does not hold {version}, so that whoever is to be answered by it gets {instance.heartbeat.version}"
        yield wrong(name, text, READ_ITS_LOG, "versions-differ")


def _beside(registry: ModelRegistry) -> set[str]:
    """Return the versions other than live that answer requests: of a canary, a shadow or a placement."""
    return {move.version for alias, move in registry.aliases().items() if in_service(alias) and alias != LIVE}


def consumers(registry: ModelRegistry, instances: Sequence[Instance]) -> Iterator[Finding]:
    """Yield findings about each consumer group: missing, silent or lagging members, and versions they do not load."""
    versions = set(versions_in_service(registry))
    for group in GROUPS:
        members = [instance for instance in instances if instance.heartbeat.program == f"consume {group}"]
        if not members:
            todo = f"Start it: millirec consume {group}"
            yield wrong(f"group {group}", "replicas run, and nobody consumes: events wait on the topic", todo, "lag")
            continue
        findings = [
            finding
            for instance in members
            for finding in _consumer(instance, versions if group == "features" else set())
        ]
        lag = sum(instance.heartbeat.lag for instance in members)
        if lag > MAX_LAG:
            text = f"{lag:,} messages behind, with {len(members)} members"
            findings.append(wrong(f"group {group}", text, f"Add members: millirec consume {group}", "lag"))
        yield from findings or [fine(f"group {group}", f"{len(members)} members, {lag:,} messages behind")]


def _consumer(instance: Instance, versions: set[str]) -> Iterator[Finding]:
    name = f"consumer {instance.heartbeat.process}"
    if instance.silent:
        yield _silent(name, instance, "lag")
    missing = sorted(versions - set(instance.heartbeat.versions))
    if missing:
        text = f"does not fold events into {', '.join(missing)}: whoever reads does so, at its own cost"
        yield wrong(name, text, READ_ITS_LOG, "versions-differ")


def damage(instances: Sequence[Instance]) -> Iterator[Finding]:
    """Yield a note about stored records that processes could not read.

    It is only a note, since the cause may be repaired already: counts start again with each process.
    """
    unreadable = {
        report.heartbeat.process: report.heartbeat.unreadable for report in instances if report.heartbeat.unreadable
    }
    if unreadable:
        first = next(iter(unreadable))
        text = f"{len(unreadable)} processes met stored records that they cannot read, the first of them {first}"
        todo = "Their logs and millirec_unreadable_records_total say which kind; rebuild, train or set it again."
        yield note("stored records", text, todo, "unreadable-records")


def _silent(name: str, instance: Instance, section: str) -> Finding:
    text = f"has been silent for {instance.age:.0f} s: it hangs, was killed, or does not reach the feature store"
    return wrong(name, text, "Look at it, and restart it; one that is gone is forgotten after a minute.", section)
