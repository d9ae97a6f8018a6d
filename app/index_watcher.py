"""IndexWatcher: alias moved -> load in a thread -> verify checksums -> warm up -> swap."""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

import structlog

from app.live_index import LiveIndex, LoadedVersion
from app.metrics import LOAD_FAILURES, SWAP_SECONDS
from app.version_loader import LOAD_DEADLINE, READ_DEADLINE, VersionLoader, answered, opened
from recsys.background import Bounded
from recsys.errors import CorruptArtefact, RegistryUnavailable, StoreUnavailable
from recsys.feature_store import VERSIONS_CHANNEL, FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.index_registry.aliases import previous
from recsys.index_registry.local_copy import remember, remembered
from recsys.settings import RegistrySettings
from recsys.throttle import log_throttled

T = TypeVar("T")
log = structlog.get_logger()
FIRST_LOAD_DEADLINE = 30.0
"""Seconds. The first load keeps the process from starting, and a version served before may stand in for it."""


class IndexWatcher:
    """Keeps the live index where the alias points. Whatever fails, what is served stays served."""

    def __init__(
        self,
        registry: IndexRegistry,
        settings: RegistrySettings,
        live_index: LiveIndex,
        store: FeatureStore,
        *,
        alias: str,
        poll_interval: float,
    ) -> None:
        self._registry = registry
        self._cache = settings.cache
        self._live_index = live_index
        self._loader = VersionLoader(registry, settings, store, poll_interval)
        self._asked = Bounded()
        self._store = store
        self._alias = alias
        self._poll_interval = poll_interval
        self._checking = asyncio.Lock()
        self._preload_due = False
        self.looked = asyncio.Event()
        """Set after every look at the alias: a nudge wakes one listener, and others may follow other aliases."""

    async def run(self) -> None:
        """Follow the alias until cancelled."""
        while True:
            await self.check()
            self.looked.set()
            if self._preload_due:
                await self._preload_previous()
            try:
                await self._store.wait_for_nudge(VERSIONS_CHANNEL, self._poll_interval)
            except StoreUnavailable:
                await asyncio.sleep(self._poll_interval)

    async def check(self) -> None:
        """Swap if the alias has moved; log and count what goes wrong.

        Where nothing is live after that, the version that was served here last is: a replica must be able to start
        while the registry is away, or was emptied.
        """
        async with self._checking:
            await self._follow()
            if self._live_index.current is None:
                await self._serve_remembered()

    async def ask(self, call: Callable[..., T], *arguments: object) -> T:
        """What `call` of the registry returns, for an administrator who waits. Raises `RegistryUnavailable`."""
        return await answered(self._asked, READ_DEADLINE, call, *arguments)

    async def _follow(self) -> None:
        version = await self._wanted()
        while version is not None:
            began = perf_counter()
            loaded = self._live_index.loaded(version)
            if loaded is None:
                loaded = await self._load(version)
                if loaded is None:
                    return
                # Loading may take minutes, in which somebody may have thought better of it.
                moved = await self._wanted(unless=version)
                if moved != version:
                    version = moved
                    continue
            await self._put_live(loaded, began)
            return

    async def _wanted(self, unless: str | None = None) -> str | None:
        """The version that the alias names and that is not live; `unless` while the registry cannot be read."""
        try:
            move = await self._loader.read(self._registry.alias, self._alias)
        except RegistryUnavailable as error:
            LOAD_FAILURES.labels("registry_unavailable").inc()
            log_throttled(log, "warning", "the registry cannot be read, serving on", error=str(error))
            return unless
        current = self._live_index.current
        return None if move is None or (current and current.index.version == move.version) else move.version

    async def _serve_remembered(self) -> None:
        found = await asyncio.to_thread(remembered, self._cache, self._alias)
        if found is None:
            return
        manifest, directory = found
        try:
            loaded = await self._loader.caught_up(await asyncio.to_thread(opened, directory, manifest))
        except CorruptArtefact as error:
            log.error("the version served here last cannot be opened", version=manifest.version, error=str(error))
            return
        self._live_index.swap(loaded)
        log.warning("serving the version served here last, until the registry names one", version=manifest.version)

    async def _put_live(self, loaded: LoadedVersion, began: float) -> None:
        self._live_index.swap(loaded)
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
            earlier = await self._loader.read(previous, self._registry, self._alias)
        except RegistryUnavailable:
            return
        self._preload_due = False
        if earlier is None or self._live_index.loaded(earlier) is not None:
            return
        loaded = await self._loader.load(earlier)
        if loaded is not None:
            self._live_index.previous = loaded
