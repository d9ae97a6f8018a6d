"""A training run, top to bottom: snapshot, split, fit, evaluate as served, gate, fit on everything, publish."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recsys.errors import CorruptArtefact, GateRefused, NotEnoughData, NotFound
from recsys.index_registry import IndexRegistry
from recsys.index_version import LIVE, Manifest
from recsys.interaction_log import InteractionLog
from recsys.recommender import Catalogue, Index
from training import dataset as data
from training.als import fit
from training.evaluate import Evaluation, HeldOutUser, evaluate_model, evaluate_popularity, held_out_users
from training.publish import open_version, publish, write_version
from training.quality_gate import refusals
from training.report import write_html
from training.result import TrainingResult
from training.settings import TrainSettings
from training.split import Split, split_by_time

Progress = Callable[[str, int, int | None], None]


def run(
    settings: TrainSettings,
    log: InteractionLog,
    registry: IndexRegistry,
    *,
    actor: str,
    reason: str,
    force: bool = False,
    log_version: int | None = None,
    progress: Progress = lambda *_: None,
) -> TrainingResult:
    """Train, evaluate and publish a version. Raises `GateRefused` (the report is written all the same),
    `NotEnoughData`, `LogUnavailable`, `RegistryUnavailable`. What is live is never touched."""
    progress("reading the log", 0, None)
    dataset = data.load(log, log_version, settings)
    split = split_by_time(dataset.interactions, settings.holdout_days)
    users = held_out_users(split, settings.history_length, exclude_seen=settings.exclude_seen)
    if split.past.is_empty() or not users:
        raise NotEnoughData("no user of the held-out days has a past: more history is needed to judge a model")
    discoverers = held_out_users(split, settings.history_length, exclude_seen=True)
    with tempfile.TemporaryDirectory(prefix="millirec-train-") as folder:
        candidate = _candidate(Path(folder), settings, dataset, split, progress)
        asked = _Asked(users, settings.exclude_seen, progress)
        measured, popular = asked.model("candidate", candidate), asked.popularity("popularity", candidate)
        new = _Asked(discoverers, True, progress)
        discovery = (new.model("candidate, new items", candidate), new.popularity("popularity, new items", candidate))
        live, live_note = _live(registry, Path(folder), split, asked)
        reasons = refusals(settings.gate, measured, popular, live if not live_note else None)
        metrics = {
            **measured.metrics,
            **{f"popularity {key}": value for key, value in popular.metrics.items()},
            **{f"new items {key}": value for key, value in discovery[0].metrics.items()},
        }
        notes = _notes(split, users, reasons, actor=actor, reason=reason, force=force)
        manifest, files = _final(Path(folder), settings, dataset, metrics, notes, progress)
        result = TrainingResult(
            manifest,
            settings.reports / f"{manifest.version}.html",
            split,
            measured,
            popular,
            live,
            live_note,
            discovery,
            reasons,
        )
        write_html(result, candidate)
        if reasons and not force:
            raise GateRefused([*reasons, f"report: {result.report}"])
        progress("publishing", 0, None)
        publish(registry, manifest, files)
    return result


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question put to each model: the same users, the same way."""

    users: list[HeldOutUser]
    exclude_seen: bool
    progress: Progress

    def model(self, name: str, catalogue: Catalogue) -> Evaluation:
        return evaluate_model(name, catalogue, self.users, exclude_seen=self.exclude_seen, progress=self.progress)

    def popularity(self, name: str, catalogue: Catalogue) -> Evaluation:
        return evaluate_popularity(name, catalogue, self.users, exclude_seen=self.exclude_seen, progress=self.progress)


def _candidate(
    folder: Path, settings: TrainSettings, dataset: data.Dataset, split: Split, progress: Progress
) -> Catalogue:
    """The model of the past only, as the service would open it. What is unavailable today was not then."""
    confidence = data.confidence_parameters(settings, split.cutoff)
    learned = data.confidence_matrix(split.past, confidence)
    factors = fit(learned.matrix, settings, progress)
    known = data.Dataset(dataset.interactions, {}, dataset.log_version, dataset.watermark)
    manifest, _ = write_version(
        folder / "candidate", settings, known, split.past, confidence, learned.item_ids, factors, metrics={}, notes={}
    )
    return open_version(folder / "candidate", manifest)


def _live(registry: IndexRegistry, folder: Path, split: Split, asked: _Asked) -> tuple[Evaluation | None, str]:
    """The live version on the same users, and why the gate must not compare with it (empty: it may)."""
    move = registry.alias(LIVE)
    if move is None:
        return None, "there is no live version to compare with"
    try:
        manifest = registry.manifest(move.version)
        index = Index.open(registry.fetch(move.version, folder / "live"), manifest)
    except (NotFound, CorruptArtefact) as error:
        return None, f"the live version cannot be opened: {error}"
    note = ""
    if manifest.watermark > split.cutoff:
        note = f"the live version learned from events up to {manifest.watermark:%Y-%m-%d}, so it has seen the answers"
    return asked.model("live", Catalogue.of(index)), note


def _final(
    folder: Path,
    settings: TrainSettings,
    dataset: data.Dataset,
    metrics: dict[str, float],
    notes: dict[str, Any],
    progress: Progress,
) -> tuple[Manifest, dict[str, Path]]:
    """The same recipe on all interactions: the newest weeks are the most valuable ones to serve from."""
    confidence = data.confidence_parameters(settings, dataset.watermark)
    learned = data.confidence_matrix(dataset.interactions, confidence)
    factors = fit(learned.matrix, settings, lambda _, done, total: progress("learning from everything", done, total))
    return write_version(
        folder / "final",
        settings,
        dataset,
        dataset.interactions,
        confidence,
        learned.item_ids,
        factors,
        metrics=metrics,
        notes=notes,
    )


def _notes(
    split: Split, users: list[HeldOutUser], reasons: list[str], *, actor: str, reason: str, force: bool
) -> dict[str, Any]:
    newcomers = split.future.filter(~pl.col("user_id").is_in(split.past["user_id"].unique().implode()))
    return {
        "split": {
            "cutoff": split.cutoff.isoformat(),
            "past_interactions": split.past.height,
            "future_interactions": split.future.height,
            "evaluated_users": len(users),
            "users_without_past": newcomers["user_id"].n_unique(),
        },
        "gate": {"passed": not reasons, "reasons": reasons, "forced": bool(reasons) and force},
        "run": {"actor": actor, "reason": reason},
    }
