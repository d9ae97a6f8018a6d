"""CanaryGuard: records the outcomes of a canary, and advances it or stops it."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from random import uniform

import structlog

from app.metrics import ROLLOUT_ANSWERS, ROLLOUT_DIFFERENCE, ROLLOUT_MOVES
from app.versions.live_index import LiveIndex
from app.versions.loader import PROOF_DEADLINE, call_registry
from app.versions.rollouts import Assignment, LiveRollouts, RunningRollout
from recsys.background import DeadlineRunner
from recsys.errors import Conflict, CorruptArtefact, NotFound, RegistryUnavailable, StoreUnavailable
from recsys.experiments.canary import Action, Verdict, counts_of, judge
from recsys.experiments.rollout import SLOW_SECONDS, UNITS, Outcome, Rollout
from recsys.models.alias_move import CANARY, AliasMove
from recsys.observability.throttle import log_throttled
from recsys.recommender.query import FallbackLevel, Recommendation
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.rollouts import advance_canary, stop
from recsys.stores.notifications import VERSIONS_CHANNEL, Notifications
from recsys.stores.outcomes import OutcomeStore

log = structlog.get_logger()
GUARD = "canary guard"
IMPERSONAL = frozenset({FallbackLevel.TRENDING, FallbackLevel.POPULAR})


class PendingOutcomes:
    """Outcomes of one experiment in this process, both sent and still to be sent.

    Both are bounded by the number of units.
    """

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self._bitmaps = {outcome: bytearray(UNITS // 8) for outcome in Outcome}
        self._news: dict[Outcome, set[int]] = {}

    def note(self, outcome: Outcome, unit: int) -> None:
        """Remember that `outcome` happened to `unit`, to be sent unless it was noted before."""
        bitmap, bit = self._bitmaps[outcome], 0x80 >> (unit & 7)
        if not bitmap[unit >> 3] & bit:
            bitmap[unit >> 3] |= bit
            self._news.setdefault(outcome, set()).add(unit)

    async def send(self, outcomes: OutcomeStore) -> None:
        """Send the new outcomes. Raises `StoreUnavailable`; then they are sent next time."""
        news, self._news = self._news, {}
        if not news:
            return
        try:
            await outcomes.record(self.experiment, news)
        except BaseException:
            for outcome, units in news.items():
                self._news.setdefault(outcome, set()).update(units)
            raise


class CanaryGuard:
    """Judges the canary. Each worker has one; all see the same outcomes, and the registry accepts only one move."""

    def __init__(
        self,
        registry: ModelRegistry,
        outcomes: OutcomeStore,
        notifications: Notifications,
        live_index: LiveIndex,
        rollouts: LiveRollouts,
        interval: float,
    ) -> None:
        self._registry = registry
        self._calls = DeadlineRunner()
        self._outcomes = outcomes
        self._notifications = notifications
        self._live_index = live_index
        self._rollouts = rollouts
        self._interval = interval
        self._pending: PendingOutcomes | None = None

    def note(
        self, chosen: Assignment, result: Recommendation, seconds: float, *, degraded: bool, stood_in: bool
    ) -> None:
        """Record the outcome of one answer, for the canary or its control."""
        if chosen.rollout is None or chosen.variant is None:
            return
        if self._pending is None or self._pending.experiment != chosen.rollout.experiment:
            self._pending = PendingOutcomes(chosen.rollout.experiment)
        ROLLOUT_ANSWERS[chosen.variant, result.fallback_level].inc()
        note, unit = self._pending.note, chosen.unit
        note(Outcome.EXPOSED, unit)
        if stood_in:
            note(Outcome.FAILED, unit)
        if degraded or result.fallback_level in IMPERSONAL:
            note(Outcome.FALLBACK, unit)
        if seconds > SLOW_SECONDS:
            note(Outcome.SLOW, unit)

    async def run(self) -> None:
        """Send and judge outcomes until cancelled."""
        while True:
            # Workers that look at the same time would compete for the same move.
            await asyncio.sleep(uniform(0.5, 1.5) * self._interval)  # noqa: S311
            try:
                await self.look()
            except (StoreUnavailable, RegistryUnavailable) as error:
                log_throttled(log, "warning", "the canary cannot be judged now", error=str(error))

    async def look(self) -> None:
        """Send new outcomes, judge all, and act on the verdict. Raises `StoreUnavailable`, `RegistryUnavailable`."""
        if self._pending is not None:
            await self._pending.send(self._outcomes)
        canary, live = self._rollouts.canary, self._live_index.current
        if canary is None or live is None:
            return
        if live.index.version != canary.rollout.control:
            reason = f"the live version is {live.index.version} now, not {canary.rollout.control} any more"
            await self._act(canary, Verdict(Action.REVERT, reason, ()))
            return
        verdict = await judged(self._outcomes, canary.move, canary.rollout)
        for finding in verdict.findings:
            for bound in ("estimate", "low", "high"):
                ROLLOUT_DIFFERENCE.labels(finding.guardrail.outcome.value, bound).set(
                    getattr(finding.difference, bound)
                )
        if verdict.action is not Action.WAIT:
            await self._act(canary, verdict)

    async def _act(self, canary: RunningRollout, verdict: Verdict) -> None:
        if verdict.action is Action.REVERT:
            act = partial(stop, self._registry, CANARY, canary.move, actor=GUARD, reason=verdict.reason)
        else:
            act = partial(advance_canary, self._registry, canary.move, actor=GUARD, reason=verdict.reason)
        try:
            await call_registry(self._calls, PROOF_DEADLINE, act)
        except CorruptArtefact as error:
            reason = f"it cannot go on: {error}"
            await self._act(canary, Verdict(Action.REVERT, reason, verdict.findings))
            return
        except (Conflict, NotFound):
            return  # another worker, or a person, was faster
        ROLLOUT_MOVES.labels(verdict.action.value).inc()
        log.warning("canary moved", version=canary.version, action=verdict.action.value, reason=verdict.reason)
        try:
            await self._notifications.send(VERSIONS_CHANNEL, canary.version)
        except StoreUnavailable as error:
            log.warning("other replicas will notice by polling", error=str(error))


async def judged(store: OutcomeStore, move: AliasMove, rollout: Rollout) -> Verdict:
    """The verdict on the current step of `rollout`, begun by `move`. Raises `StoreUnavailable`."""
    outcomes = await store.read(rollout.experiment)
    seconds = (datetime.now(UTC) - move.moved_at).total_seconds()
    return await asyncio.to_thread(lambda: judge(rollout, seconds, counts_of(outcomes, rollout.boundary)))
