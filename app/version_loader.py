"""VersionLoader: a version from the registry into memory, verified, with its newest items, warmed up."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TypeVar

import structlog

from app.live_index import LoadedVersion, caught_up
from app.metrics import LOAD_FAILURES
from recsys.background import Bounded
from recsys.errors import CorruptArtefact, NotFound, RegistryUnavailable, StoreUnavailable
from recsys.feature_store import FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.index_registry.local_copy import hold
from recsys.index_version import Manifest
from recsys.recommendation import Query
from recsys.recommender import Catalogue, Index, recommend
from recsys.settings import RegistrySettings

T = TypeVar("T")
log = structlog.get_logger()
MAX_BACKOFF = 60.0
READ_DEADLINE = 5.0
LOAD_DEADLINE = 900.0
"""Seconds."""


class VersionLoader:
    """For one watcher: its calls of the registry go one after the other, beside the event loop."""

    def __init__(self, registry: IndexRegistry, settings: RegistrySettings, store: FeatureStore, pause: float) -> None:
        self._registry = registry
        self._cache = settings.cache
        self._store = store
        self._pause = pause
        self._calls = Bounded()
        self._refused: dict[str, tuple[float, float]] = {}

    async def read(self, call: Callable[..., T], *arguments: object) -> T:
        """What `call` of the registry returns. Raises `RegistryUnavailable`."""
        return await answered(self._calls, READ_DEADLINE, call, *arguments)

    async def load(self, version: str, deadline: float = LOAD_DEADLINE) -> LoadedVersion | None:
        """The version ready to serve, or `None` when it must not be (tried again later, ever more slowly)."""
        not_before, delay = self._refused.get(version, (0.0, self._pause))
        if monotonic() < not_before:
            return None
        try:
            loaded = await self.caught_up(await answered(self._calls, deadline, self._fetched, version))
        except (CorruptArtefact, NotFound, RegistryUnavailable) as error:
            reason = {CorruptArtefact: "corrupt", NotFound: "missing"}.get(type(error), "registry_unavailable")
            self._refused[version] = (monotonic() + delay, min(2 * delay, MAX_BACKOFF))
            LOAD_FAILURES.labels(reason).inc()
            log.error("index version refused, serving on", version=version, reason=reason, error=str(error))
            return None
        self._refused.pop(version, None)
        return loaded

    async def caught_up(self, loaded: LoadedVersion) -> LoadedVersion:
        """With the item changes there are, if they can be read now."""
        try:
            return await caught_up(loaded, self._store)
        except StoreUnavailable as error:
            log.warning("item changes cannot be read yet", version=loaded.index.version, error=str(error))
            return loaded

    def _fetched(self, version: str) -> LoadedVersion:
        manifest = self._registry.manifest(version)
        return opened(self._registry.fetch(version, self._cache), manifest)


async def answered(calls: Bounded, deadline: float, call: Callable[..., T], *arguments: object) -> T:
    """What `call` returns. Raises `RegistryUnavailable` when that takes longer than `deadline` seconds too."""
    try:
        return await calls.run(deadline, call, *arguments)
    except TimeoutError as error:
        raise RegistryUnavailable(
            f"the index registry did not answer in {deadline:g} s; what was asked of it may yet happen"
        ) from error


def opened(directory: Path, manifest: Manifest) -> LoadedVersion:
    """The version in `directory`, warm. Raises `CorruptArtefact`."""
    index = Index.open(directory, manifest)
    hold(directory, index.item_factors)
    loaded = LoadedVersion(index, Catalogue.of(index))
    # Touch what a request touches, so that the first one does not pay for page faults.
    probe = index.user_id.ids(index.user_id.order[:1].astype("int64"))
    for query in (Query(k=10), *(Query(k=10, user_id=one) for one in probe)):
        recommend(query, None, loaded.catalogue)
    return loaded
