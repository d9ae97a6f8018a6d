"""millirec doctor: check every connection and say what to do."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from millirec.settings import Settings, load_settings
from millirec.terminal import console
from recsys.errors import RecsysError
from recsys.feature_store import open_feature_store
from recsys.index_registry import open_index_registry
from recsys.index_registry.aliases import aliases_of
from recsys.index_version import LIVE
from recsys.interaction_topic import open_interaction_topic
from recsys.settings import TopicBackend

MIN_FREE_BYTES = 1 << 30
Check = Callable[[Settings], Coroutine[Any, Any, str]]


def register(app: typer.Typer) -> None:
    @app.command("doctor")
    def doctor() -> None:
        """Check every connection and say what to do. Exit code 1 if something is wrong."""
        settings = load_settings()
        table = Table("check", "", "what was found, and what to do")
        sound = True
        for name, check, advice in CHECKS:
            try:
                found, mark = asyncio.run(check(settings)), "[green]ok[/green]"
            except RecsysError as error:
                found, mark, sound = f"{error}\n[yellow]{advice(settings)}[/yellow]", "[red]wrong[/red]", False
            table.add_row(name, mark, found)
        console.print(table)
        if not sound:
            raise typer.Exit(1)


async def _store(settings: Settings) -> str:
    store = open_feature_store(settings.store)
    try:
        await store.ping()
        return "the feature store answers"
    finally:
        await store.aclose()


async def _topic(settings: Settings) -> str:
    await open_interaction_topic(settings.topic, settings.store).ping()
    return f"the {settings.topic.backend.value} topic {settings.topic.name!r} answers"


async def _log(settings: Settings) -> str:
    from recsys.interaction_log import open_interaction_log

    version = await asyncio.to_thread(open_interaction_log(settings.log).version)
    if version < 0:
        return "readable, and empty: import a file (millirec import) or post events"
    return f"readable, at table version {version}"


async def _dead_letters(settings: Settings) -> str:
    from recsys.interaction_log import open_dead_letters

    waiting = await asyncio.to_thread(open_dead_letters(settings.log).waiting)
    return f"[yellow]{waiting:,} wait: see millirec dead-letters list[/yellow]" if waiting else "none wait"


async def _registry(settings: Settings) -> str:
    registry = open_index_registry(settings.registry)
    versions = await asyncio.to_thread(registry.versions)
    pointed = await asyncio.to_thread(aliases_of, registry)
    if LIVE not in pointed:
        return f"{len(versions)} versions, none of them live: train one (millirec train)"
    manifest = registry.manifest(pointed[LIVE])
    return f"{len(versions)} versions; live is {manifest.version} with {manifest.items:,} items"


async def _disk(settings: Settings) -> str:
    cache = settings.registry.cache.resolve()
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise RecsysError(f"only {free / 1e9:.1f} GB free at {existing}")
    return f"{free / 1e9:.1f} GB free at {existing}"


async def _spool(settings: Settings) -> str:
    from app.spool_folder import unowned

    folder = settings.serve.spool
    if folder is None:
        return "none: events get 503 while the topic is down (MILLIREC_SERVE__SPOOL)"
    left = await asyncio.to_thread(unowned, folder)
    if left:
        raise RecsysError(f"{sum(left.values()):,} messages that nobody sends, in {', '.join(map(str, sorted(left)))}")
    return f"nothing is left behind in {folder}"


async def _keys(settings: Settings) -> str:
    if not settings.serve.keys:
        return "[yellow]no API keys: authentication is off. Make one with: millirec key NAME[/yellow]"
    return f"{len(settings.serve.keys)} API keys"


def _start_store(settings: Settings) -> str:
    return f"Start Redis or Valkey, or set MILLIREC_STORE__URL (timeout {settings.store.timeout} s)."


def _start_topic(settings: Settings) -> str:
    if settings.topic.backend is TopicBackend.KAFKA:
        return f"Is Kafka at {settings.topic.kafka.bootstrap}? MILLIREC_TOPIC__KAFKA__BOOTSTRAP sets it."
    return "The topic lives in the feature store: see above."


def _local(url: str, variable: str) -> str:
    place = Path(url).resolve() if "://" not in url else url
    return f"It is looked for at {place}; {variable} sets it."


CHECKS: list[tuple[str, Check, Callable[[Settings], str]]] = [
    ("feature store", _store, _start_store),
    ("interaction topic", _topic, _start_topic),
    ("interaction log", _log, lambda settings: _local(settings.log.path, "MILLIREC_LOG__PATH")),
    ("dead letters", _dead_letters, lambda settings: _local(settings.log.path, "MILLIREC_LOG__PATH")),
    ("index registry", _registry, lambda settings: _local(settings.registry.url, "MILLIREC_REGISTRY__URL")),
    ("spool", _spool, lambda _: "Start millirec serve with this folder: it sends them. A .corrupt file is for you."),
    ("disk", _disk, lambda _: "Free some space: versions are cached there (MILLIREC_REGISTRY__CACHE)."),
    ("API keys", _keys, lambda _: ""),
]
