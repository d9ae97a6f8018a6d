"""Metric drop: whether the live version's recall on the newest events is what its manifest promised."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from recsys.models.kinds import RecommenderSection, section_of
from recsys.models.manifest import Manifest
from recsys.opening import open_recommender
from recsys.stores.event_log import InteractionLog
from recsys.stores.model_registry import ModelRegistry
from training.evaluation.bootstrap import Interval, mean_interval
from training.evaluation.evaluate import evaluate_model, held_out_users
from training.evaluation.splits import Split
from training.gate.judge import RECALL
from training.recommender import dataset as data
from training.runs.comparison import all_available
from training.runs.run import settings_of
from training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class BaselineMetric:
    """The live version's recall@20 as its manifest has it, and on events that it has not seen."""

    promised: float
    measured: Interval

    def fell(self, drop: float) -> bool:
        """Return whether even the upper bound lost more than the share `drop` of the promised recall."""
        return self.measured.high < (1.0 - drop) * self.promised


def measure_baseline(
    settings: TrainSettings, log: InteractionLog, registry: ModelRegistry, live: Manifest, cache: Path
) -> BaselineMetric | None:
    """Evaluate `live` on the last `holdout_days` of the log, as far as it has not learned from them.

    Users have the history before those days, and are evaluated as for the manifest's figure. Returns `None` where the
    manifest has no figure, or for fewer than `gate.min_users` users. Raises `InvalidInput` for a version whose
    settings this release does not have, `NotFound`, `CorruptArtefact`, `LogUnavailable`.
    """
    promised = live.metrics.get(RECALL)
    if not promised:
        return None
    live_settings = settings_of(live, settings)
    interactions = data.load(log, None, live_settings)
    watermark = section_of(live, RecommenderSection).watermark
    cutoff = max(watermark, interactions.watermark - timedelta(days=live_settings.holdout_days))
    is_past = interactions.interactions["occurred_at"] <= cutoff
    split = Split(interactions.interactions.filter(is_past), interactions.interactions.filter(~is_past), cutoff)
    users = held_out_users(
        split,
        live_settings.history_length,
        exclude_seen=live_settings.exclude_seen,
        wanted_types=live_settings.wanted_types,
    )
    if len(users) < settings.gate.min_users:
        return None
    catalogue = all_available(open_recommender(registry.fetch(live.version, cache), live))
    evaluation = evaluate_model(
        "live", catalogue, users, exclude_seen=live_settings.exclude_seen, progress=lambda *_: None
    )
    gate = settings.gate
    return BaselineMetric(
        promised,
        mean_interval(evaluation.recall, confidence=gate.confidence, samples=gate.bootstrap_samples, seed=gate.seed),
    )


class MetricWatch:
    """Evaluates the live version again after `every` more events, or when another version is live."""

    def __init__(self, settings: TrainSettings, drop: float, every: int) -> None:
        self._settings = settings
        self._drop = drop
        self._every = every
        self._evaluated: tuple[str, int] | None = None
        self._reasons: list[str] = []

    def reasons(
        self, log: InteractionLog, registry: ModelRegistry, live: Manifest, new_events: int, cache: Path
    ) -> list[str]:
        """Return reasons to train, kept until the next evaluation; empty for none. Raises as `measure_baseline`."""
        version, event_count = self._evaluated or ("", 0)
        if live.version != version:
            self._reasons, event_count = [], 0
        if new_events - event_count >= self._every:
            metric = measure_baseline(self._settings, log, registry, live, cache)
            self._reasons = [_drop_reason(metric, self._drop)] if metric is not None and metric.fell(self._drop) else []
            event_count = new_events
        self._evaluated = live.version, event_count
        return self._reasons


def _drop_reason(metric: BaselineMetric, drop: float) -> str:
    interval = f"{metric.measured.low:.4f} to {metric.measured.high:.4f} over {metric.measured.users} users"
    return f"{RECALL} is {interval}, {metric.promised:.4f} was promised (--when-drop {drop:g})"
