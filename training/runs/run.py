"""A training run, top to bottom: snapshot, split, fit, evaluate as served, fit on everything, gate, publish."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from recsys.errors import CorruptArtefact, GateRefused, InvalidInput, NotEnoughData, NotFound
from recsys.models.kinds import RecommenderSection, section_of
from recsys.models.manifest import GateVerdict, Manifest
from recsys.opening import open_recommender
from recsys.scratch import scratch_folder
from recsys.stores.event_log import InteractionLog
from recsys.stores.model_registry import ModelRegistry
from training.evaluation.splits import Split, split_by_time
from training.gate import Artefact, Check, Evidence, judge, reasons
from training.monitoring.data_shift import DataShift, data_shift
from training.provenance import RUNTIME_SETTINGS, differences
from training.recommender import dataset as data
from training.recommender.algorithms import open_algorithm
from training.recommender.algorithms.protocol import Fit
from training.recommender.index_build import Progress
from training.reports.report import write_html
from training.reports.result import TrainingResult
from training.runs.comparison import Comparison, compare
from training.runs.context import RunContext, RunRequest
from training.runs.publish import publish, write_version
from training.settings import TrainSettings


def run(
    settings: TrainSettings,
    log: InteractionLog,
    registry: ModelRegistry,
    request: RunRequest,
    progress: Progress = lambda *_: None,
) -> TrainingResult:
    """Train, evaluate and publish a version. What is live is never touched.

    Raises `GateRefused` (the report is written all the same), `NotEnoughData`, `LogUnavailable`,
    `RegistryUnavailable`, and `InvalidInput` for a force without a reason, parameters that the algorithm does not
    have, or a version that cannot be made again.
    """
    if request.force and not request.reason.strip():
        raise InvalidInput("reason", "a forced version needs one")
    settings = settings_of(request.like, settings) if request.like else settings
    algorithm = open_algorithm(settings)
    progress("reading the log", 0, None)
    with scratch_folder("train") as folder:
        dataset = _snapshot(request, log, registry, settings, folder)
        context = RunContext(settings, algorithm, dataset, folder, progress)
        split = split_by_time(dataset.interactions, settings.holdout_days)
        compared = compare(context, split, None if request.like else registry)
        if not compared.users and not request.force:
            raise NotEnoughData(
                "no user of the held-out days has a past, so nothing can be judged: more history is needed "
                f"(of several visits per user, over more than {settings.holdout_days:g} days), or force with a reason"
            )
        shift = _shift(dataset, compared.live_manifest)
        notes = _notes(split, compared, shift, request)
        # The same recipe on all interactions: the newest weeks are the most valuable for serving.
        model = context.fit(dataset.interactions, dataset.watermark, "learning from everything")
        manifest, files = write_version(context, folder / "final", model, metrics=compared.metrics(), notes=notes)
        checks = judge(settings.gate, _evidence(compared, manifest, shift))
        manifest = _with_verdict(manifest, checks, request)
        result = _result(context, split, compared, manifest, checks, model.fit, request)
        write_html(result)
        if result.reasons and not request.force:
            raise GateRefused([*result.reasons, f"report: {result.report}"])
        progress("publishing", 0, None)
        request.assert_lease()
        publish(registry, manifest, files)
    return result


def _result(
    context: RunContext,
    split: Split,
    compared: Comparison,
    manifest: Manifest,
    checks: list[Check],
    learned: Fit,
    request: RunRequest,
) -> TrainingResult:
    return TrainingResult(
        manifest=manifest,
        report=context.settings.reports / f"{manifest.version}.html",
        split=split,
        candidate=compared.candidate,
        popularity=compared.popularity,
        live=compared.live,
        live_note=compared.live_note,
        fit=learned,
        discovery=compared.discovery,
        own_history=compared.own_history,
        checks=checks,
        rebuilt=None if request.like is None else (request.like.version, differences(request.like, manifest)),
    )


def settings_of(like: Manifest, current: TrainSettings) -> TrainSettings:
    """Return the settings that `like` was trained with; those that change no factor are taken from `current`.

    Raises `InvalidInput` where this release has no such settings.
    """
    parameters = like.parameters.get("training", {})
    overrides = {name: getattr(current, name) for name in ("reports", *RUNTIME_SETTINGS)}
    try:
        return TrainSettings.model_validate({**parameters, **overrides})
    except ValueError as error:
        raise InvalidInput("like", f"{like.version} was trained with settings of another release: {error}") from error


def _snapshot(
    request: RunRequest, log: InteractionLog, registry: ModelRegistry, settings: TrainSettings, folder: Path
) -> data.Dataset:
    """Return the log as asked for. For a rebuild with the items of that version: the log keeps only the newest."""
    like = request.like
    if like is None:
        return data.load(log, request.log_version, settings)
    try:
        index = open_recommender(registry.fetch(like.version, folder / "like"), like).index
        log_version = index.section.log_version
        interactions = data.load(log, log_version, settings)
    except (CorruptArtefact, NotFound) as error:
        raise InvalidInput("like", f"{like.version} cannot be made again: {error}") from error
    except InvalidInput as error:
        reason = f"{like.version} was learned from version {log_version} of the interaction log: {error.reason}"
        raise InvalidInput("like", reason) from error
    items = filter(None, map(index.item, range(len(index))))
    return replace(interactions, items={item.item_id: item for item in items})


def _shift(dataset: data.Dataset, live: Manifest | None) -> DataShift | None:
    if live is None:
        return None
    previous_count = live.provenance.data.get("interactions")
    return data_shift(
        dataset.interactions, section_of(live, RecommenderSection).watermark, dataset.items, previous_count
    )


def _evidence(compared: Comparison, manifest: Manifest, shift: DataShift | None) -> Evidence:
    recall = next((trial["recall"] for trial in manifest.parameters["search_tried"] if trial["chosen"]), 1.0)
    live = compared.live_manifest
    artefact = Artefact(recall, manifest.size / 1e6, live.size / 1e6 if live else None)
    fair = None if compared.live_note else compared.live
    return Evidence(compared.candidate, compared.popularity, fair, compared.leads, artefact, shift)


def _with_verdict(manifest: Manifest, checks: Sequence[Check], request: RunRequest) -> Manifest:
    refused = reasons(checks)
    verdict = GateVerdict(
        passed=not refused,
        reasons=refused,
        forced=bool(refused) and request.force,
        checks=msgspec.to_builtins([*checks]),
    )
    like = {"like": request.like.version} if request.like else {}
    return msgspec.structs.replace(manifest, verdict=verdict, parameters=manifest.parameters | like)


def _notes(split: Split, compared: Comparison, shift: DataShift | None, request: RunRequest) -> dict[str, Any]:
    newcomers = split.future.filter(~pl.col("user_id").is_in(split.past["user_id"].unique().implode()))
    return {
        "shift": {} if shift is None else msgspec.to_builtins(shift),
        "split": {
            "cutoff": split.cutoff.isoformat(),
            "past_interactions": split.past.height,
            "future_interactions": split.future.height,
            "evaluated_users": compared.users,
            "users_without_past": newcomers["user_id"].n_unique(),
        },
        "run": {"actor": request.actor, "reason": request.reason},
    }
