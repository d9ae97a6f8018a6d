"""IndexWatcher: alias moved -> load in a thread -> verify checksums -> warm up -> swap."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter
from typing import TypeVar

import structlog

from app.live_index import LiveIndex, LoadedVersion, caught_up
from app.metrics import LOAD_FAILURES, SWAP_SECONDS
from recsys.background import Bounded
from recsys.errors import CorruptArtefact, NotFound, RegistryUnavailable, StoreUnavailable
from recsys.feature_store import VERSIONS_CHANNEL, FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.index_registry.aliases import previous
from recsys.index_registry.local_copy import hold, remember, remembered
from recsys.index_version import Manifest
from recsys.recommendation import Query
from recsys.recommender import Catalogue, Index, recommend
from recsys.settings import RegistrySettings

T = TypeVar("T")
log = structlog.get_logger()
MAX_BACKOFF = 60.0
READ_DEADLINE = 5.0
LOAD_DEADLINE = 900.0
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
        self._calls = Bounded()
        self._asked = Bounded()
        self._store = store
        self._alias = alias
        self._poll_interval = poll_interval
        self._checking = asyncio.Lock()
        self._refused: dict[str, tuple[float, float]] = {}
        self._preload_due = False

    async def run(self) -> None:
        """Follow the alias until cancelled."""
        while True:
            await self.check()
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
        return await _answered(self._asked, READ_DEADLINE, call, *arguments)

    async def _follow(self) -> None:
        version = await self._wanted()
        while version is not None:
            began = perf_counter()
            loaded = self._live_index.loaded(version)
            if loaded is None:
                loaded = await self._load_or_refuse(version)
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
            move = await self._from_registry(READ_DEADLINE, self._registry.alias, self._alias)
        except RegistryUnavailable as error:
            LOAD_FAILURES.labels("registry_unavailable").inc()
            log.warning("the registry cannot be read, serving on", error=str(error))
            return unless
        current = self._live_index.current
        return None if move is None or (current and current.index.version == move.version) else move.version

    async def _serve_remembered(self) -> None:
        found = await asyncio.to_thread(remembered, self._cache, self._alias)
        if found is None:
            return
        manifest, directory = found
        try:
            loaded = await self._caught_up(await asyncio.to_thread(_opened, directory, manifest))
        except CorruptArtefact as error:
            log.error("the version served here last cannot be opened", version=manifest.version, error=str(error))
            return
        self._live_index.swap(loaded)
        log.warning("serving the version served here last, until the registry names one", version=manifest.version)

    async def _from_registry(self, deadline: float, call: Callable[..., T], *arguments: object) -> T:
        return await _answered(self._calls, deadline, call, *arguments)

    async def _put_live(self, loaded: LoadedVersion, began: float) -> None:
        self._live_index.swap(loaded)
        self._preload_due = True
        await asyncio.to_thread(remember, self._cache, self._alias, loaded.index.manifest)
        SWAP_SECONDS.observe(perf_counter() - began)
        log.info("index version live", version=loaded.index.version, seconds=round(perf_counter() - began, 3))

    async def _load_or_refuse(self, version: str) -> LoadedVersion | None:
        """The version ready to serve, or `None` when it must not be (tried again later, ever more slowly)."""
        not_before, delay = self._refused.get(version, (0.0, self._poll_interval))
        if monotonic() < not_before:
            return None
        try:
            loaded = await self._load(version)
        except (CorruptArtefact, NotFound, RegistryUnavailable) as error:
            reason = {CorruptArtefact: "corrupt", NotFound: "missing"}.get(type(error), "registry_unavailable")
            self._refused[version] = (monotonic() + delay, min(2 * delay, MAX_BACKOFF))
            LOAD_FAILURES.labels(reason).inc()
            log.error("index version refused, serving on", version=version, reason=reason, error=str(error))
            return None
        self._refused.pop(version, None)
        return loaded

    async def _load(self, version: str) -> LoadedVersion:
        deadline = FIRST_LOAD_DEADLINE if self._live_index.current is None else LOAD_DEADLINE
        return await self._caught_up(await self._from_registry(deadline, self._fetched, version))

    async def _caught_up(self, loaded: LoadedVersion) -> LoadedVersion:
        try:
            return await caught_up(loaded, self._store)
        except StoreUnavailable as error:
            log.warning("item changes cannot be read yet", version=loaded.index.version, error=str(error))
            return loaded

    def _fetched(self, version: str) -> LoadedVersion:
        manifest = self._registry.manifest(version)
        return _opened(self._registry.fetch(version, self._cache), manifest)

    async def _preload_previous(self) -> None:
        """Have the version that a rollback would bring back in memory too, so that it is instant."""
        try:
            earlier = await self._from_registry(READ_DEADLINE, previous, self._registry, self._alias)
        except RegistryUnavailable:
            return
        self._preload_due = False
        if earlier is None or self._live_index.loaded(earlier) is not None:
            return
        loaded = await self._load_or_refuse(earlier)
        if loaded is not None:
            self._live_index.previous = loaded


async def _answered(calls: Bounded, deadline: float, call: Callable[..., T], *arguments: object) -> T:
    try:
        return await calls.run(deadline, call, *arguments)
    except TimeoutError as error:
        raise RegistryUnavailable(
            f"the index registry did not answer in {deadline:g} s; what was asked of it may yet happen"
        ) from error


def _opened(directory: Path, manifest: Manifest) -> LoadedVersion:
    index = Index.open(directory, manifest)
    hold(directory, index.item_factors)
    loaded = LoadedVersion(index, Catalogue.of(index))
    # Touch what a request touches, so that the first one does not pay for page faults.
    probe = index.user_id.ids(index.user_id.order[:1].astype("int64"))
    for query in (Query(k=10), *(Query(k=10, user_id=one) for one in probe)):
        recommend(query, None, loaded.catalogue)
    return loaded
