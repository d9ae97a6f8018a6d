"""VersionsInService: the index versions that the features group folds events into."""

import asyncio
from collections.abc import Iterator
from time import monotonic

import structlog

from ingest.metrics import IN_SERVICE
from recsys.errors import CorruptArtefact, NotFound, RegistryUnavailable, StoreUnavailable
from recsys.index.index import Index
from recsys.models.alias_move import CANARY, AliasMove
from recsys.observability.throttle import log_throttled
from recsys.opening import fetch_recommender
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import ModelRegistry, open_model_registry
from recsys.stores.model_registry.aliases import versions_in_service
from recsys.stores.notifications import VERSIONS_CHANNEL, Notifications

log = structlog.get_logger()
REFUSED_FOR = 60.0


class VersionsInService:
    """Keeps open every version that an alias has in service and the one a rollback would bring back.

    Users without events after a new version came have no embedding of it: readers fold it in. So nothing is
    recomputed in bulk here.
    """

    def __init__(self, settings: RegistrySettings, notifications: Notifications, interval: float) -> None:
        self._settings = settings
        self._notifications = notifications
        self._interval = interval
        self._registry: ModelRegistry | None = None
        self._refused: dict[str, float] = {}
        self.indexes: tuple[Index, ...] = ()
        self.canary: AliasMove | None = None

    async def run(self) -> None:
        """Refresh on every notification, or after the interval, until cancelled."""
        while True:
            try:
                await self._notifications.wait(VERSIONS_CHANNEL, self._interval)
            except StoreUnavailable:
                await asyncio.sleep(self._interval)
            await self.refresh()

    async def refresh(self) -> None:
        """Open the versions now in service; while the registry is unavailable, the current ones stay."""
        try:
            self._replace(tuple(await asyncio.to_thread(self._open_all)))
        except RegistryUnavailable as error:
            log_throttled(
                log, "warning", "the registry cannot be read, folding into the versions known", error=str(error)
            )

    def _open_all(self) -> list[Index]:
        self._registry = self._registry or open_model_registry(self._settings)
        self.canary = self._registry.alias(CANARY)
        return list(self._open_each(self._registry, versions_in_service(self._registry)))

    def _open_each(self, registry: ModelRegistry, versions: list[str]) -> Iterator[Index]:
        opened = {index.version: index for index in self.indexes}
        for version in versions:
            index = opened.get(version) or self._open(registry, version)
            if index is not None:
                yield index

    def _open(self, registry: ModelRegistry, version: str) -> Index | None:
        if monotonic() < self._refused.get(version, 0.0):
            return None
        try:
            return fetch_recommender(registry, version, self._settings.cache).index
        except (CorruptArtefact, NotFound) as error:
            self._refused[version] = monotonic() + REFUSED_FOR
            log.error("version refused, not folding into it", version=version, error=str(error))
            return None

    def _replace(self, indexes: tuple[Index, ...]) -> None:
        previous, current = ({index.version for index in group} for group in (self.indexes, indexes))
        for version in previous - current:
            IN_SERVICE.remove(version)
        for version in current - previous:
            IN_SERVICE.labels(version).set(1)
            log.info("folding into version", version=version)
        self.indexes = indexes
