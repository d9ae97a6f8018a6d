"""VersionLoader: a version from the registry into memory, verified, with its newest items, warmed up."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TypeVar

import structlog

from app.metrics import LOAD_FAILURES
from app.versions.live_index import Fallback, LiveIndex, LoadedVersion, catch_up
from recsys.background import DeadlineRunner
from recsys.errors import (
    CorruptArtefact,
    NotFound,
    OutdatedArtefact,
    RecsysError,
    RegistryOutdated,
    RegistryUnavailable,
    StoreUnavailable,
)
from recsys.models.manifest import RECOMMENDER, Manifest
from recsys.opening import open_recommender, try_version, warm
from recsys.retries import backoffs
from recsys.settings import RegistrySettings
from recsys.stores.items import ItemStore
from recsys.stores.model_registry import ModelRegistry

T = TypeVar("T")
log = structlog.get_logger()
MAX_BACKOFF = 60.0
READ_DEADLINE = 5.0
LOAD_DEADLINE = 900.0
PROOF_DEADLINE = 120.0
"""Seconds. Before a move the version is copied to this machine and opened, while an operator waits."""


class Openings:
    """Opens versions one at a time, and keeps one opened to check a move for the watcher that loads it next."""

    def __init__(self, live_index: LiveIndex, cache: Path) -> None:
        self._live_index = live_index
        self._cache = cache
        self._opening = Lock()
        self._ready: LoadedVersion | None = None

    def open(self, registry: ModelRegistry, version: str) -> LoadedVersion:
        """The version as the registry has it. Call it in a thread. Raises `CorruptArtefact`, `NotFound`."""
        manifest = registry.manifest(version)
        with self._opening:
            ready = self._ready
            if ready is not None and ready.index.manifest == manifest:
                self._ready = None
                return ready
            return open_directory(registry.fetch(version, self._cache), manifest)

    def prove(self, registry: ModelRegistry, version: str) -> None:
        """Check that the version is complete in the registry and opens. Call it in a thread."""
        manifest = registry.manifest(version)
        loaded = self._live_index.loaded(version)
        if registry.model != RECOMMENDER:
            try_version(registry.fetch(version, self._cache), manifest)
        elif loaded is None or loaded.index.manifest != manifest:
            self._ready = self.open(registry, version)
        registry.check(version, self._cache)


class VersionLoader:
    """Loads versions for one watcher; its calls of the registry run one at a time, in a thread."""

    def __init__(
        self,
        registry: ModelRegistry,
        settings: RegistrySettings,
        items: ItemStore,
        pause: float,
        openings: Openings,
    ) -> None:
        self._registry = registry
        self._cache = settings.cache
        self._items = items
        self._pause = pause
        self._openings = openings
        self._calls = DeadlineRunner()
        self._refused: dict[str, tuple[float, Iterator[float]]] = {}
        self._refusals: dict[str, RecsysError] = {}

    async def read(self, call: Callable[..., T], *arguments: object) -> T:
        """The result of `call` of the registry. Raises `RegistryUnavailable`."""
        return await call_registry(self._calls, READ_DEADLINE, call, *arguments)

    async def load(self, version: str, deadline: float = LOAD_DEADLINE) -> LoadedVersion | None:
        """The version ready to serve, or `None` when it must not be (tried again later, ever more slowly)."""
        not_before, pauses = self._refused.get(version, (0.0, backoffs(self._pause, MAX_BACKOFF)))
        if monotonic() < not_before:
            return None
        try:
            opening = call_registry(self._calls, deadline, self._openings.open, self._registry, version)
            loaded = await self.catch_up(await opening)
        except (CorruptArtefact, NotFound, RegistryUnavailable) as error:
            self._refused[version] = (monotonic() + next(pauses), pauses)
            LOAD_FAILURES.labels(cause_of(error)).inc()
            # One line per cause: the counter tells how often.
            if str(error) != str(self._refusals.get(version)):
                log.error("index version refused", version=version, reason=cause_of(error), error=str(error))
            self._refusals[version] = error
            return None
        self._refused.pop(version, None)
        if self._refusals.pop(version, None) is not None:
            log.info("index version loads now", version=version)
        return loaded

    def refusal(self, version: str) -> RecsysError | None:
        """The error with which the version was last refused, if any."""
        return self._refusals.get(version)

    async def catch_up(self, loaded: LoadedVersion) -> LoadedVersion:
        """`loaded` with all item changes, or as it is if they cannot be read now."""
        try:
            return await catch_up(loaded, self._items)
        except StoreUnavailable as error:
            log.warning("item changes cannot be read yet", version=loaded.index.version, error=str(error))
            return loaded


def cause_of(error: RecsysError) -> str:
    """The value of the metric's label for `error`."""
    causes = {CorruptArtefact: "corrupt", NotFound: "missing"}
    return next((cause for kind, cause in causes.items() if isinstance(error, kind)), "registry_unavailable")


def fallback_for(version: str | None, error: RecsysError) -> Fallback:
    """The note that `error` keeps `version`, or whatever is live, from being served."""
    outdated = isinstance(error, OutdatedArtefact | RegistryOutdated)
    return Fallback(version, cause_of(error), str(error), outdated)


async def call_registry(calls: DeadlineRunner, deadline: float, call: Callable[..., T], *arguments: object) -> T:
    """The result of `call`. Raises `RegistryUnavailable`, also after `deadline` seconds."""
    try:
        return await calls.run(deadline, call, *arguments)
    except TimeoutError as error:
        raise RegistryUnavailable(
            f"the model registry did not answer in {deadline:g} s; what was asked of it may yet happen"
        ) from error


def open_directory(directory: Path, manifest: Manifest) -> LoadedVersion:
    """The version in `directory`, opened and warmed up. Raises `CorruptArtefact`."""
    catalogue = warm(open_recommender(directory, manifest))
    return LoadedVersion(catalogue.index, catalogue)
