"""The systems a deployment stands on: feature store, topic, log, disks, keys."""

import asyncio
import shutil
from pathlib import Path

from app.server import limits
from millirec.checkup.finding import Finding, fine, note, wrong
from millirec.settings import Settings
from recsys.errors import RecsysError
from recsys.settings import TopicBackend
from recsys.stores.online import open_stores
from recsys.stores.topic import open_interaction_topic

MIN_FREE_BYTES = 1 << 30
MIN_FREE_SHARE = 0.05
ENOUGH = 512
"""Connections of a process, where the settings ask for no number."""


async def feature_store(settings: Settings) -> list[Finding]:
    """Check that the feature store answers."""
    stores = open_stores(settings.store)
    try:
        await stores.ping()
    except RecsysError as error:
        todo = f"Start Redis or Valkey, or set MILLIREC_STORE__URL (timeout {settings.store.timeout} s)."
        return [wrong("feature store", str(error), todo, "degraded")]
    finally:
        await stores.aclose()
    return [fine("feature store", "it answers")]


async def interaction_topic(settings: Settings) -> list[Finding]:
    """Check that the interaction topic answers."""
    topic = settings.topic
    try:
        await open_interaction_topic(topic, settings.store).ping()
    except RecsysError as error:
        where = (
            f"Is Kafka at {topic.kafka.bootstrap}? MILLIREC_TOPIC__KAFKA__BOOTSTRAP sets it."
            if topic.backend is TopicBackend.KAFKA
            else "The topic lives in the feature store: see there."
        )
        return [wrong("interaction topic", str(error), where, "events-refused")]
    return [fine("interaction topic", f"the {topic.backend.value} topic {topic.name!r} answers")]


async def interaction_log(settings: Settings) -> list[Finding]:
    """Check that the interaction log can be read, and count the dead letters that wait."""
    try:
        version, waiting = await asyncio.to_thread(_read_log, settings)
    except RecsysError as error:
        todo = _looked_for(settings.log.path, "MILLIREC_LOG__PATH")
        return [wrong("interaction log", str(error), todo, "consumer-waits")]
    empty = "readable, and empty: import a file (millirec import) or post events"
    findings = [fine("interaction log", empty if version < 0 else f"readable, at table version {version}")]
    if waiting:
        todo = "See why: millirec dead-letters list"
        return [*findings, note("dead letters", f"{waiting:,} wait", todo, "dead-letters")]
    return [*findings, fine("dead letters", "none wait")]


def _read_log(settings: Settings) -> tuple[int, int]:
    """Return the log's table version and the number of waiting dead letters.

    The table engine is loaded in the calling thread, so that the event loop stays free for the other checks.
    """
    from recsys.stores.dead_letters import open_dead_letters
    from recsys.stores.event_log import open_interaction_log

    return open_interaction_log(settings.log).version(), open_dead_letters(settings.log).waiting()


async def disks(settings: Settings) -> list[Finding]:
    """Check the free space of each file system that holds data of this machine, each one once."""
    folders = {settings.registry.cache: "MILLIREC_REGISTRY__CACHE"}
    folders |= {Path(settings.log.path): "MILLIREC_LOG__PATH"} if "://" not in settings.log.path else {}
    folders |= {Path(settings.registry.url): "MILLIREC_REGISTRY__URL"} if "://" not in settings.registry.url else {}
    folders |= {settings.serve.spool: "MILLIREC_SERVE__SPOOL"} if settings.serve.spool else {}
    findings: dict[int, Finding] = {}
    for folder, variable in folders.items():
        existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        device = existing.stat().st_dev
        if device not in findings:
            findings[device] = _disk(existing, variable)
    return list(findings.values())


def _disk(folder: Path, variable: str) -> Finding:
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB free at {folder}"
    # A small volume that was made small on purpose is not full for that.
    if usage.free < min(MIN_FREE_BYTES, MIN_FREE_SHARE * usage.total):
        todo = f"Free some space, or move it ({variable}): millirec versions prune, millirec log tidy."
        return wrong("disk", text, todo, "disk-full")
    return fine("disk", text)


async def spool(settings: Settings) -> list[Finding]:
    """Check the spool folder: its free space, and files that no process sends."""
    from app.spool.folder import free_bytes, unowned

    folder = settings.serve.spool
    if folder is None:
        text = "none: events get 503 while the topic is down"
        return [fine("spool", f"{text} (MILLIREC_SERVE__SPOOL)")]
    leftovers = await asyncio.to_thread(unowned, folder)
    free, reserve = free_bytes(folder), settings.serve.spool_reserve
    if free < reserve:
        text = f"{free / 1e6:,.1f} MB are free at {folder}, {reserve / 1e6:,.1f} MB are to stay so: events get 503"
        todo = "Make room, or move it (MILLIREC_SERVE__SPOOL); MILLIREC_SERVE__SPOOL_RESERVE says how much stays free."
        return [wrong("spool", text, todo, "spool-disk")]
    if leftovers:
        text = f"{sum(leftovers.values()):,} messages that nobody sends, in {', '.join(map(str, sorted(leftovers)))}"
        todo = "Start millirec serve with this folder: it sends them. A .corrupt file is for you."
        return [wrong("spool", text, todo, "spool-damaged" if not any(leftovers.values()) else "spool-grows")]
    return [fine("spool", f"nothing is left behind in {folder}, {free / 1e9:.1f} GB are free")]


async def open_files(settings: Settings) -> list[Finding]:
    """Check the open files limit of this shell against the connections; the service may run under another limit."""
    files = limits.open_files()[1]
    room = limits.max_connections(settings.serve, files)
    text = f"{files:,} open files at most: room for {room:,} connections in each process of the service"
    if room < (settings.serve.max_connections or ENOUGH):
        todo = f"Raise it (ulimit -n {limits.needed_files(settings.serve)}), or lower MILLIREC_SERVE__MAX_CONNECTIONS."
        return [wrong("open files", text, todo, "connections")]
    return [fine("open files", text)]


async def keys(settings: Settings) -> list[Finding]:
    """Report how many API keys are configured."""
    if not settings.serve.keys:
        return [note("API keys", "none: authentication is off", "Make one with: millirec key NAME")]
    return [fine("API keys", f"{len(settings.serve.keys)}")]


def _looked_for(url: str, variable: str) -> str:
    location = Path(url).resolve() if "://" not in url else url
    return f"It is looked for at {location}; {variable} sets it."
