"""IndexWatcher: alias moved -> load in a thread -> verify checksums -> warm up -> swap."""

import asyncio
from time import monotonic, perf_counter

import structlog

from app.live_index import LiveIndex, LoadedVersion, caught_up
from app.metrics import LOAD_FAILURES, SWAP_SECONDS
from recsys.errors import CorruptArtefact, NotFound, RegistryUnavailable, StoreUnavailable
from recsys.feature_store import VERSIONS_CHANNEL, FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.index_registry.aliases import previous
from recsys.recommendation import Query
from recsys.recommender import Catalogue, Index, recommend
from recsys.settings import RegistrySettings

log = structlog.get_logger()
MAX_BACKOFF = 60.0


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
        """Swap if the alias has moved; log and count what goes wrong."""
        async with self._checking:
            try:
                move = await asyncio.to_thread(self._registry.alias, self._alias)
            except RegistryUnavailable as error:
                LOAD_FAILURES.labels("registry_unavailable").inc()
                log.warning("the registry cannot be read, serving on", error=str(error))
                return
            current = self._live_index.current
            if move is None or (current is not None and current.index.version == move.version):
                return
            await self._swap_to(move.version)

    async def _swap_to(self, version: str) -> None:
        began = perf_counter()
        loaded = self._live_index.loaded(version) or await self._load_or_refuse(version)
        if loaded is None:
            return
        self._live_index.swap(loaded)
        self._preload_due = True
        SWAP_SECONDS.observe(perf_counter() - began)
        log.info("index version live", version=version, seconds=round(perf_counter() - began, 3))

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
        loaded = await asyncio.to_thread(self._open, version)
        try:
            return await caught_up(loaded, self._store)
        except StoreUnavailable as error:
            log.warning("item changes cannot be read yet", version=version, error=str(error))
            return loaded

    def _open(self, version: str) -> LoadedVersion:
        manifest = self._registry.manifest(version)
        directory = self._registry.fetch(version, self._cache)
        index = Index.open(directory, manifest)
        loaded = LoadedVersion(index, Catalogue.of(index))
        # Touch what a request touches, so that the first one does not pay for page faults.
        probe = index.user_id.ids(index.user_id.order[:1].astype("int64"))
        for query in (Query(k=10), *(Query(k=10, user_id=one) for one in probe)):
            recommend(query, None, loaded.catalogue)
        return loaded

    async def _preload_previous(self) -> None:
        """Have the version that a rollback would bring back in memory too, so that it is instant."""
        try:
            earlier = await asyncio.to_thread(previous, self._registry, self._alias)
        except RegistryUnavailable:
            return
        self._preload_due = False
        if earlier is None or self._live_index.loaded(earlier) is not None:
            return
        loaded = await self._load_or_refuse(earlier)
        if loaded is not None:
            self._live_index.previous = loaded
