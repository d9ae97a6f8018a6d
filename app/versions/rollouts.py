"""LiveRollouts: which requests another version than the live one answers, and the watcher that updates this."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from app.metrics import LOAD_FAILURES, ROLLOUT_SHARE
from app.versions.live_index import LiveIndex, LoadedVersion
from app.versions.loader import VersionLoader
from recsys.errors import RegistryUnavailable
from recsys.experiments.rollout import Rollout, Variant
from recsys.models.alias_move import CANARY, PLACEMENT, SHADOW, AliasMove
from recsys.observability.throttle import log_throttled
from recsys.stores.model_registry import ModelRegistry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which version answers a query, instead of the live one or as its `variant`; `unit`: the user's."""

    version: str | None
    variant: Variant | None = None
    rollout: Rollout | None = None
    unit: int = 0


@dataclass(frozen=True, slots=True)
class RunningRollout:
    """A canary or shadow that is loaded here."""

    move: AliasMove
    rollout: Rollout

    @property
    def version(self) -> str:
        """The version that is tried out."""
        return self.move.version


class LiveRollouts:
    """Lives on the event loop's thread only, like `LiveIndex`. Everything in it is loaded."""

    def __init__(self) -> None:
        self.canary: RunningRollout | None = None
        self.shadow: RunningRollout | None = None
        self.pinned: Mapping[str, str] = {}
        """The version of a placement, by its name."""

    def choose(self, user_id: str | None, placement: str) -> Assignment | None:
        """Which version answers, `None` for the live one: a placement's own, else by the user's side of a canary."""
        if placement in self.pinned:
            return Assignment(self.pinned[placement])
        if self.canary is None or user_id is None:
            return None
        rollout = self.canary.rollout
        unit = rollout.unit(user_id)
        if unit < rollout.boundary:
            return Assignment(self.canary.version, Variant.CANARY, rollout, unit)
        return Assignment(None, Variant.CONTROL, rollout, unit)


class RolloutWatcher:
    """Loads the versions that other aliases name beside the live one, and drops those that they no longer name."""

    def __init__(
        self,
        registry: ModelRegistry,
        loader: VersionLoader,
        live_index: LiveIndex,
        rollouts: LiveRollouts,
        looked: asyncio.Event,
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._live_index = live_index
        self._rollouts = rollouts
        self._looked = looked

    async def run(self) -> None:
        """Follow the aliases until cancelled; `looked` says when."""
        while True:
            self._looked.clear()
            await self.check()
            await self._looked.wait()

    async def check(self) -> None:
        """Follow the aliases; while the registry cannot be read, the last known ones hold."""
        try:
            moves = await self._loader.read(self._registry.aliases)
        except RegistryUnavailable as error:
            LOAD_FAILURES.labels("registry_unavailable").inc()
            log_throttled(log, "warning", "the aliases cannot be read, serving on", error=str(error))
            return
        targets = {alias: move for alias, move in moves.items() if _is_beside(alias)}
        # What is no longer wanted ends at once; what is newly wanted, when it is loaded.
        self._take_over(targets, self._in_memory)
        for version in {move.version for move in targets.values()}:
            if self._in_memory(version) is None:
                loaded = await self._loader.load(version)
                if loaded is not None:
                    self._live_index.alternates[version] = loaded
        self._take_over(targets, self._in_memory)

    def _in_memory(self, version: str) -> LoadedVersion | None:
        return self._live_index.loaded(version)

    def _take_over(self, targets: Mapping[str, AliasMove], lookup: Callable[[str], LoadedVersion | None]) -> None:
        versions = {move.version for move in targets.values()}
        # Also what is live or was: it may leave there while an alias here still names it.
        self._live_index.alternates = {
            version: loaded for version in versions if (loaded := lookup(version)) is not None
        }
        ready = {alias: move for alias, move in targets.items() if move.version in self._live_index.alternates}
        previous = (self._rollouts.canary, self._rollouts.shadow, self._rollouts.pinned)
        self._rollouts.canary, self._rollouts.shadow = (
            _running_rollout(ready.get(alias)) for alias in (CANARY, SHADOW)
        )
        self._rollouts.pinned = {
            alias.removeprefix(PLACEMENT): move.version for alias, move in ready.items() if alias.startswith(PLACEMENT)
        }
        for alias, running in ((CANARY, self._rollouts.canary), (SHADOW, self._rollouts.shadow)):
            ROLLOUT_SHARE.labels(alias).set(running.rollout.share if running else 0.0)
        if previous != (self._rollouts.canary, self._rollouts.shadow, self._rollouts.pinned):
            log.info("rollouts changed", **{alias: move.version for alias, move in ready.items()})


def _is_beside(alias: str) -> bool:
    return alias in (CANARY, SHADOW) or alias.startswith(PLACEMENT)


def _running_rollout(move: AliasMove | None) -> RunningRollout | None:
    return None if move is None or move.rollout is None else RunningRollout(move, move.rollout)
