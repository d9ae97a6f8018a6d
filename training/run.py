"""A training run, top to bottom: snapshot, split, fit, evaluate as served, gate, fit on everything, publish."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from recsys.errors import CorruptArtefact, GateRefused, InvalidInput, NotEnoughData, NotFound
from recsys.index_registry import IndexRegistry
from recsys.index_version import LIVE, Manifest
from recsys.interaction_log import InteractionLog
from recsys.recommender import Catalogue, Index
from training import dataset as data
from training.als import Fit, fit
from training.evaluate import (
    Evaluation,
    HeldOutUser,
    evaluate_model,
    evaluate_own_history,
    evaluate_popularity,
    held_out_users,
    nobody_asked,
)
from training.publish import open_version, publish, write_version
from training.quality_gate import RECALL, refusals
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
    """Train, evaluate and publish a version. What is live is never touched.

    `force` publishes in spite of the gate, or without anybody to judge by; the manifest keeps why. Raises
    `GateRefused` (the report is written all the same), `NotEnoughData`, `LogUnavailable`, `RegistryUnavailable`,
    and `InvalidInput` for a force without a reason.
    """
    if force and not reason.strip():
        raise InvalidInput("reason", "a forced version needs one")
    progress("reading the log", 0, None)
    dataset = data.load(log, log_version, settings)
    split = split_by_time(dataset.interactions, settings.holdout_days)
    with tempfile.TemporaryDirectory(prefix="millirec-train-") as folder:
        judged = _judge(Path(folder), settings, dataset, split, registry, progress)
        if not judged.users and not force:
            raise NotEnoughData(
                "no user of the held-out days has a past, so nothing can be judged: more history is needed "
                f"(of several visits per user, over more than {settings.holdout_days:g} days), or force with a reason"
            )
        reasons = refusals(
            settings.gate,
            judged.candidate,
            judged.popularity,
            None if judged.live_note else judged.live,
            judged.live_lead if judged.live_note else None,
        )
        notes = _notes(split, judged, reasons, actor=actor, reason=reason, force=force)
        manifest, files, learned = _final(Path(folder), settings, dataset, judged.metrics(), notes, progress)
        result = TrainingResult(
            manifest=manifest,
            report=settings.reports / f"{manifest.version}.html",
            split=split,
            candidate=judged.candidate,
            popularity=judged.popularity,
            live=judged.live,
            live_note=judged.live_note,
            fit=learned,
            discovery=judged.discovery,
            own_history=judged.own_history,
            reasons=reasons,
        )
        write_html(result)
        if reasons and not force:
            raise GateRefused([*reasons, f"report: {result.report}"])
        progress("publishing", 0, None)
        publish(registry, manifest, files)
    return result


@dataclass(frozen=True, slots=True)
class _Judged:
    """How the model of the past does on the held-out days; everything is empty when `users` is 0.

    `live_lead` is how many times popularity's recall the live version reached when it was trained.
    """

    users: int
    candidate: Evaluation
    popularity: Evaluation
    discovery: tuple[Evaluation, ...] = ()
    own_history: Evaluation | None = None
    live: Evaluation | None = None
    live_note: str = ""
    live_lead: float | None = None

    def metrics(self) -> dict[str, float]:
        named = [("", self.candidate), ("popularity ", self.popularity)]
        named += [("own history ", self.own_history)] if self.own_history else []
        named += zip(("new items ", "popularity new items "), self.discovery, strict=False)
        return {f"{prefix}{key}": value for prefix, one in named for key, value in one.metrics.items()}


def _judge(
    folder: Path,
    settings: TrainSettings,
    dataset: data.Dataset,
    split: Split,
    registry: IndexRegistry,
    progress: Progress,
) -> _Judged:
    wanted = settings.wanted_types
    users = held_out_users(split, settings.history_length, exclude_seen=settings.exclude_seen, wanted_types=wanted)
    if not users:
        return _Judged(0, nobody_asked("candidate"), nobody_asked("popularity"))
    discoverers = held_out_users(split, settings.history_length, exclude_seen=True, wanted_types=wanted)
    candidate = _candidate(folder, settings, dataset, split, progress)
    asked, new = _Asked(users, settings.exclude_seen, progress), _Asked(discoverers, True, progress)
    measured, popular = asked.model("candidate", candidate), asked.popularity("popularity", candidate)
    discovery = (new.model("candidate, new items", candidate), new.popularity("popularity, new items", candidate))
    own = None if asked.exclude_seen else evaluate_own_history("own history", candidate, users, progress=progress)
    live, note, lead = _live(registry, folder, split, asked)
    return _Judged(len(users), measured, popular, discovery if discoverers else (), own, live, note, lead)


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
    factors = fit(learned.matrix, settings, progress).item_factors
    known = data.Dataset(dataset.interactions, {}, dataset.log_version, dataset.watermark)
    manifest, _ = write_version(
        folder / "candidate",
        settings,
        known,
        split.past,
        confidence,
        learned.item_ids,
        factors,
        metrics={},
        notes={},
        tune=False,
        progress=progress,
    )
    return open_version(folder / "candidate", manifest)


def _live(
    registry: IndexRegistry, folder: Path, split: Split, asked: _Asked
) -> tuple[Evaluation | None, str, float | None]:
    """The live version on the same users, why that is no fair comparison (empty: it is), and its lead when trained."""
    move = registry.alias(LIVE)
    if move is None:
        return None, "there is no live version to compare with", None
    try:
        manifest = registry.manifest(move.version)
        index = Index.open(registry.fetch(move.version, folder / "live"), manifest)
    except (NotFound, CorruptArtefact) as error:
        return None, f"the live version cannot be opened: {error}", None
    # What is unavailable today was not so in the held-out days; the candidate hides nothing either.
    live = asked.model("live", _all_available(Catalogue.of(index)))
    if manifest.watermark < split.cutoff:
        return live, "", None
    lead = _lead_when_trained(manifest, asked.exclude_seen)
    then = f"; when it was trained it reached {lead:.2f} times the recall of popular items" if lead else ""
    seen = f"the live version learned from events up to {manifest.watermark:%Y-%m-%d}, so it has seen the answers"
    return live, seen + then, lead


def _all_available(catalogue: Catalogue) -> Catalogue:
    hidden = [catalogue.item(row) for row in range(len(catalogue)) if catalogue.is_hidden(row)]
    return catalogue.updated([msgspec.structs.replace(item, available=True) for item in hidden if item is not None])


def _lead_when_trained(manifest: Manifest, exclude_seen: bool) -> float | None:
    recall, popular = manifest.metrics.get(RECALL), manifest.metrics.get(f"popularity {RECALL}")
    same_question = manifest.parameters.get("training", {}).get("exclude_seen") == exclude_seen
    return recall / popular if recall is not None and popular and same_question else None


def _final(
    folder: Path,
    settings: TrainSettings,
    dataset: data.Dataset,
    metrics: dict[str, float],
    notes: dict[str, Any],
    progress: Progress,
) -> tuple[Manifest, dict[str, Path], Fit]:
    """The same recipe on all interactions: the newest weeks are the most valuable ones to serve from."""
    confidence = data.confidence_parameters(settings, dataset.watermark)
    learned = data.confidence_matrix(dataset.interactions, confidence)
    fitted = fit(learned.matrix, settings, progress, "learning from everything")
    manifest, files = write_version(
        folder / "final",
        settings,
        dataset,
        dataset.interactions,
        confidence,
        learned.item_ids,
        fitted.item_factors,
        metrics=metrics,
        notes=notes,
        progress=progress,
    )
    return manifest, files, fitted


def _notes(
    split: Split, judged: _Judged, reasons: list[str], *, actor: str, reason: str, force: bool
) -> dict[str, Any]:
    newcomers = split.future.filter(~pl.col("user_id").is_in(split.past["user_id"].unique().implode()))
    return {
        "split": {
            "cutoff": split.cutoff.isoformat(),
            "past_interactions": split.past.height,
            "future_interactions": split.future.height,
            "evaluated_users": judged.users,
            "users_without_past": newcomers["user_id"].n_unique(),
        },
        "gate": {"passed": not reasons, "reasons": reasons, "forced": bool(reasons) and force},
        "run": {"actor": actor, "reason": reason},
    }
