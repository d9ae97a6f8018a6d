"""IndexWatcher: alias moved -> load in a thread -> verify checksums -> warm up -> swap."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import structlog

from app.metrics import LOAD_FAILURES, SWAP_SECONDS
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.loader import (
    LOAD_DEADLINE,
    PROOF_DEADLINE,
    READ_DEADLINE,
    Openings,
    VersionLoader,
    call_registry,
    fallback_for,
    open_directory,
)
from recsys.background import DeadlineRunner
from recsys.errors import CorruptArtefact, RegistryUnavailable, StoreUnavailable
from recsys.observability.throttle import log_throttled
from recsys.settings import RegistrySettings
from recsys.stores.items import ItemStore
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import earlier, previous
from recsys.stores.model_registry.local_copy import remember, remembered
from recsys.stores.notifications import VERSIONS_CHANNEL, Notifications

FALLBACKS = 10
"""Earlier versions that are tried, the newest first."""
T = TypeVar("T")
log = structlog.get_logger()
FIRST_LOAD_DEADLINE = 30.0
"""Seconds. The process starts only after the first load; after the deadline it serves an earlier version instead."""


class IndexWatcher:
    """Keeps the live index at the version that the alias names. After a failure the current one stays in service."""

    def __init__(
        self,
        registry: ModelRegistry,
        settings: RegistrySettings,
        live_index: LiveIndex,
        items: ItemStore,
        notifications: Notifications,
        *,
        alias: str,
        poll_interval: float,
        openings: Openings,
    ) -> None:
        self._registry = registry
        self._cache = settings.cache
        self._live_index = live_index
        self._loader = VersionLoader(registry, settings, items, poll_interval, openings)
        self._queries = DeadlineRunner()
        self._proving = DeadlineRunner()
        self._notifications = notifications
        self._alias = alias
        self._poll_interval = poll_interval
        self._checking = asyncio.Lock()
        self._preload_due = False
        self.looked = asyncio.Event()
        """Set after every look at the alias: a notification wakes one listener, and others may follow other aliases."""

    async def run(self) -> None:
        """Follow the alias until cancelled."""
        while True:
            await self.check()
            self.looked.set()
            if self._preload_due:
                await self._preload_previous()
            try:
                await self._notifications.wait(VERSIONS_CHANNEL, self._poll_interval)
            except StoreUnavailable:
                await asyncio.sleep(self._poll_interval)

    async def check(self) -> None:
        """Swap if the alias has moved; log and count what goes wrong.

        Where nothing is live after that, an earlier version is: a replica must be able to start while what the alias
        names cannot be loaded, or the registry is away or was emptied.
        """
        async with self._checking:
            await self._follow()
            if self._live_index.current is None:
                await self._serve_earlier()
            if self._live_index.current is None:
                await self._serve_remembered()

    async def ask(self, call: Callable[..., T], *arguments: object) -> T:
        """The result of `call` of the registry, for an administrator who waits. Raises `RegistryUnavailable`."""
        return await call_registry(self._queries, READ_DEADLINE, call, *arguments)

    async def prove(self, registry: ModelRegistry, version: str) -> None:
        """Open `version` of a model here before an alias is moved to it, so that the move itself takes little time.

        Raises `CorruptArtefact`, `NotFound`, `RegistryUnavailable`.
        """
        await call_registry(self._proving, PROOF_DEADLINE, registry.prove, version)

    async def _follow(self) -> None:
        version = await self._new_target()
        while version is not None:
            began = perf_counter()
            loaded = self._live_index.loaded(version)
            if loaded is None:
                loaded = await self._load(version)
                if loaded is None:
                    self._fall_back(version)
                    return
                # Loading may take minutes, during which the alias may have moved again.
                target = await self._new_target(unless=version)
                if target != version:
                    version = target
                    continue
            await self._put_live(loaded, began)
            return

    async def _new_target(self, unless: str | None = None) -> str | None:
        """The version that the alias names and that is not live; `unless` while the registry cannot be read."""
        try:
            move = await self._loader.read(self._registry.alias, self._alias)
        except RegistryUnavailable as error:
            LOAD_FAILURES.labels("registry_unavailable").inc()
            log_throttled(log, "warning", "the registry cannot be read, serving on", error=str(error))
            if self._live_index.current is None:
                self._live_index.fall_back(fallback_for(None, error))
            return unless
        current = self._live_index.current
        if move is not None and (current is None or current.index.version != move.version):
            return move.version
        self._live_index.fall_back(None)
        return None

    def _fall_back(self, version: str) -> None:
        refusal = self._loader.refusal(version)
        if refusal is not None:
            self._live_index.fall_back(fallback_for(version, refusal))

    async def _serve_earlier(self) -> None:
        """Serve the newest version that the alias named earlier and that can be loaded."""
        try:
            versions = await self._loader.read(earlier, self._registry, self._alias)
        except RegistryUnavailable:
            return
        for version in versions[:FALLBACKS]:
            loaded = await self._loader.load(version, FIRST_LOAD_DEADLINE)
            if loaded is not None:
                self._live_index.swap(loaded)
                await asyncio.to_thread(remember, self._cache, self._alias, loaded.index.manifest)
                log.error("serving an earlier version", version=version, because=str(self._live_index.fallback))
                return

    async def _serve_remembered(self) -> None:
        entry = await asyncio.to_thread(remembered, self._cache, self._registry.model, self._alias)
        if entry is None:
            return
        manifest, directory = entry
        try:
            loaded = await self._loader.catch_up(await asyncio.to_thread(open_directory, directory, manifest))
        except CorruptArtefact as error:
            log.error("the version served here last cannot be opened", version=manifest.version, error=str(error))
            return
        self._live_index.swap(loaded)
        log.warning("serving the version served here last, until the registry names one", version=manifest.version)

    async def _put_live(self, loaded: LoadedVersion, began: float) -> None:
        self._live_index.swap(loaded)
        self._live_index.fall_back(None)
        self._preload_due = True
        await asyncio.to_thread(remember, self._cache, self._alias, loaded.index.manifest)
        SWAP_SECONDS.observe(perf_counter() - began)
        log.info("index version live", version=loaded.index.version, seconds=round(perf_counter() - began, 3))

    async def _load(self, version: str) -> LoadedVersion | None:
        first = self._live_index.current is None
        return await self._loader.load(version, FIRST_LOAD_DEADLINE if first else LOAD_DEADLINE)

    async def _preload_previous(self) -> None:
        """Have the version that a rollback would bring back in memory too, so that it is instant."""
        try:
            version = await self._loader.read(previous, self._registry, self._alias)
        except RegistryUnavailable:
            return
        self._preload_due = False
        if version is None or self._live_index.loaded(version) is not None:
            return
        loaded = await self._loader.load(version)
        if loaded is not None:
            self._live_index.previous = loaded
