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
from recsys.feature_store import open_feature_store
from recsys.heartbeat import REPORT_SECONDS, Instance
from recsys.index_registry import IndexRegistry, open_index_registry
from recsys.index_registry.aliases import versions_in_service
from recsys.index_version import LIVE, in_service

SERVE = "serve"
GROUPS = ("features", "log")
READ_ITS_LOG = "Its log says why (version refused, registry cannot be read); mend that, or restart it."
AWAY = "millirec versions rollback -r"
MAX_LAG = 10_000
"""Messages, as in the alert MillirecLag."""


async def processes(settings: Settings) -> list[Finding]:
    """What seems to be out of step is looked at again, when everybody has had the time to report once more."""
    deadline = monotonic() + 2 * REPORT_SECONDS
    while True:
        try:
            found = await look(settings)
        except StoreUnavailable:
            return [note("processes", "who runs cannot be told without the feature store", "", "degraded")]
        except RecsysError:
            return [note("processes", "who is out of step cannot be told without the registry", "", "registry-away")]
        if all(one.state is not State.WRONG for one in found) or monotonic() > deadline:
            return found
        await asyncio.sleep(REPORT_SECONDS / 4)


async def look(settings: Settings) -> list[Finding]:
    """One look. Raises `StoreUnavailable`, `RegistryUnavailable`."""
    store = open_feature_store(settings.store)
    try:
        seen = await store.instances()
    finally:
        await store.aclose()
    if not seen:
        todo = "Start them: millirec serve, millirec consume"
        return [note("processes", "no replica and no consumer runs on this feature store", todo)]
    registry = await asyncio.to_thread(open_index_registry, settings.registry)
    return await asyncio.to_thread(lambda: [*replicas(registry, seen), *consumers(registry, seen), *damage(seen)])


def replicas(registry: IndexRegistry, seen: Sequence[Instance]) -> Iterator[Finding]:
    serving = [one for one in seen if one.heartbeat.program == SERVE]
    if not serving:
        yield wrong("workers", "consumers run, and no replica", "Start it: millirec serve", "no-version")
        return
    found = [finding for one in serving for finding in _replica(registry, one)]
    versions = sorted({one.heartbeat.version for one in serving if one.heartbeat.version})
    told = f"{len(serving)} answer from {', '.join(versions)}" if versions else f"{len(serving)} wait for a version"
    yield from found or [fine("workers", told)]


def _replica(registry: IndexRegistry, one: Instance) -> Iterator[Finding]:
    name = f"worker {one.heartbeat.process}"
    alias = one.heartbeat.alias
    move = registry.alias(alias)
    wanted = None if move is None else move.version
    if one.silent:
        yield _silent(name, one, "versions-differ")
    if move is None and one.heartbeat.version is not None:
        told = f"answers from {one.heartbeat.version}, and nothing is {alias} in this registry"
        todo = (
            "Is this the registry that it follows (MILLIREC_REGISTRY__URL)? If it was lost, import or train a version."
        )
        yield wrong(name, told, todo, "registry-away")
    if move is not None and one.heartbeat.version != wanted:
        since = (datetime.now(UTC) - move.moved_at).total_seconds()
        told = f"answers from {one.heartbeat.version}; {alias} has been {wanted} for {since:,.0f} s"
        fallback = one.heartbeat.fallback
        yield wrong(
            name,
            f"{told}: {fallback}" if fallback else told,
            f'Its log names the file; until that is mended: {AWAY} "..."' if fallback else READ_ITS_LOG,
            "version-refused" if fallback else "versions-differ",
        )
    for beside in sorted(_beside(registry) - set(one.heartbeat.versions)):
        told = f"does not hold {beside}, so that whoever is to be answered by it gets {one.heartbeat.version}"
        yield wrong(name, told, READ_ITS_LOG, "versions-differ")


def _beside(registry: IndexRegistry) -> set[str]:
    """What a canary, a shadow or a placement is to be answered from."""
    return {move.version for alias, move in registry.aliases().items() if in_service(alias) and alias != LIVE}


def consumers(registry: IndexRegistry, seen: Sequence[Instance]) -> Iterator[Finding]:
    wanted = set(versions_in_service(registry))
    for group in GROUPS:
        members = [one for one in seen if one.heartbeat.program == f"consume {group}"]
        if not members:
            todo = f"Start it: millirec consume {group}"
            yield wrong(f"group {group}", "replicas run, and nobody consumes: events wait on the topic", todo, "lag")
            continue
        found = [finding for one in members for finding in _consumer(one, wanted if group == "features" else set())]
        lag = sum(one.heartbeat.lag for one in members)
        if lag > MAX_LAG:
            told = f"{lag:,} messages behind, with {len(members)} members"
            found.append(wrong(f"group {group}", told, f"Add members: millirec consume {group}", "lag"))
        yield from found or [fine(f"group {group}", f"{len(members)} members, {lag:,} messages behind")]


def _consumer(one: Instance, wanted: set[str]) -> Iterator[Finding]:
    name = f"consumer {one.heartbeat.process}"
    if one.silent:
        yield _silent(name, one, "lag")
    missing = sorted(wanted - set(one.heartbeat.versions))
    if missing:
        told = f"does not fold events into {', '.join(missing)}: whoever reads does so, at its own cost"
        yield wrong(name, told, READ_ITS_LOG, "versions-differ")


def damage(seen: Sequence[Instance]) -> Iterator[Finding]:
    """A note: what a process met may be mended since, and its count begins again with it."""
    met = {report.heartbeat.process: report.heartbeat.unreadable for report in seen if report.heartbeat.unreadable}
    if met:
        told = f"{len(met)} processes met stored records that they cannot read, the first of them {next(iter(met))}"
        todo = "Their logs and millirec_unreadable_records_total say which kind; rebuild, train or set it again."
        yield note("stored records", told, todo, "unreadable-records")


def _silent(name: str, one: Instance, section: str) -> Finding:
    told = f"has been silent for {one.age:.0f} s: it hangs, was killed, or does not reach the feature store"
    return wrong(name, told, "Look at it, and restart it; one that is gone is forgotten after a minute.", section)
