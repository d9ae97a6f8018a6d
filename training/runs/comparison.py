"""Comparison: the candidate, popular items and the live version, evaluated on the same held-out users."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact, NotFound, RegistryOutdated
from recsys.models.alias_move import LIVE
from recsys.models.manifest import Manifest
from recsys.opening import open_recommender
from recsys.stores.model_registry import ModelRegistry
from training.evaluation.evaluate import (
    ITEM_SEGMENTS,
    USER_SEGMENTS,
    Evaluation,
    HeldOutUser,
    empty_evaluation,
    evaluate_model,
    evaluate_own_history,
    evaluate_popularity,
    held_out_users,
)
from training.evaluation.splits import Split
from training.gate.judge import RECALL
from training.recommender.index_build import Progress
from training.runs.context import RunContext
from training.runs.publish import write_version


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluations of the model of the past on the held-out days; all are empty when `users` is 0.

    `live_note` says why the live version is not compared on these users (empty: it is). Then `leads` are how many
    times popularity's recall it reached when it was trained, by segment and `""` for all users.
    """

    users: int
    candidate: Evaluation
    popularity: Evaluation
    discovery: tuple[Evaluation, ...] = ()
    own_history: Evaluation | None = None
    live: Evaluation | None = None
    live_note: str = ""
    leads: dict[str, float] = field(default_factory=dict)
    live_manifest: Manifest | None = None

    def metrics(self) -> dict[str, float]:
        """Return the means of every evaluation for the manifest, prefixed by the model's name."""
        named = [("", self.candidate), ("popularity ", self.popularity)]
        named += [("own history ", self.own_history)] if self.own_history else []
        named += zip(("new items ", "popularity new items "), self.discovery, strict=False)
        return {f"{prefix}{key}": value for prefix, evaluation in named for key, value in evaluation.summary().items()}


def compare(context: RunContext, split: Split, registry: ModelRegistry | None) -> Comparison:
    """Evaluate the recipe to be published against popularity and, given `registry`, the live version."""
    settings, progress = context.settings, context.progress
    users, discoverers = (
        held_out_users(
            split,
            settings.history_length,
            exclude_seen=exclude_seen,
            wanted_types=settings.wanted_types,
            segments=settings.segments,
        )
        for exclude_seen in (settings.exclude_seen, True)
    )
    if not users:
        return Comparison(0, empty_evaluation("candidate"), empty_evaluation("popularity"))
    candidate = _candidate(context, split)
    evaluator, new = _Evaluator(users, settings.exclude_seen, progress), _Evaluator(discoverers, True, progress)
    measured, popular = evaluator.model("candidate", candidate), evaluator.popularity("popularity", candidate)
    discovery = (new.model("candidate, new items", candidate), new.popularity("popularity, new items", candidate))
    own = None if evaluator.exclude_seen else evaluate_own_history("own history", candidate, users, progress=progress)
    live = _live(registry, context.folder, split, evaluator) if registry else (None, "nothing live was asked", {}, None)
    return Comparison(len(users), measured, popular, discovery if discoverers else (), own, *live)


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Evaluates each model on the same users, the same way."""

    users: list[HeldOutUser]
    exclude_seen: bool
    progress: Progress

    def model(self, name: str, catalogue: Catalogue) -> Evaluation:
        """Evaluate the recommender of `catalogue` on the users."""
        return evaluate_model(name, catalogue, self.users, exclude_seen=self.exclude_seen, progress=self.progress)

    def popularity(self, name: str, catalogue: Catalogue) -> Evaluation:
        """Evaluate the popular items of `catalogue` on the users."""
        return evaluate_popularity(name, catalogue, self.users, exclude_seen=self.exclude_seen, progress=self.progress)


def _candidate(context: RunContext, split: Split) -> Catalogue:
    """Return the model of the past only, as the service would open it, with every item available."""
    folder = context.folder / "candidate"
    model = context.fit(split.past, split.cutoff)
    without_items = replace(context, dataset=replace(context.dataset, items={}))
    manifest, _ = write_version(without_items, folder, model, metrics={}, notes={}, tune=False)
    return open_recommender(folder, manifest)


def _live(
    registry: ModelRegistry, folder: Path, split: Split, evaluator: _Evaluator
) -> tuple[Evaluation | None, str, dict[str, float], Manifest | None]:
    """Return the live version's evaluation, why it is not fair (empty: it is), its leads when trained, its manifest."""
    try:
        move = registry.alias(LIVE)
    except RegistryOutdated as error:
        return None, f"there is no live version to compare with: {error}", {}, None
    if move is None:
        return None, "there is no live version to compare with", {}, None
    manifest = None
    try:
        manifest = registry.manifest(move.version)
        catalogue = open_recommender(registry.fetch(move.version, folder / "live"), manifest)
    except (NotFound, CorruptArtefact) as error:
        return None, f"the live version cannot be opened: {error}", {}, manifest
    # Items unavailable today were available in the held-out days; the candidate hides nothing either.
    live = evaluator.model("live", all_available(catalogue))
    watermark = catalogue.index.section.watermark
    if watermark < split.cutoff:
        return live, "", {}, manifest
    leads = _leads_when_trained(manifest, evaluator.exclude_seen)
    lead_note = f"; when it was trained it reached {leads['']:.2f} times the recall of popular items" if leads else ""
    note = f"the live version learned from events up to {watermark:%Y-%m-%d}, so it has seen the answers"
    return live, note + lead_note, leads, manifest


def all_available(catalogue: Catalogue) -> Catalogue:
    """Return `catalogue` with every item available, as on the held-out days."""
    hidden = [catalogue.item(row) for row in range(len(catalogue)) if catalogue.is_hidden(row)]
    return catalogue.updated([msgspec.structs.replace(item, available=True) for item in hidden if item is not None])


def _leads_when_trained(manifest: Manifest, exclude_seen: bool) -> dict[str, float]:
    """Return recall over popularity's, by segment but the tail: its popular recall is near 0, the ratio meaningless."""
    if manifest.parameters.get("training", {}).get("exclude_seen") != exclude_seen:
        return {}
    leads = {}
    for segment in ("", *USER_SEGMENTS, ITEM_SEGMENTS[0]):
        name = f"{RECALL} of {segment}" if segment else RECALL
        recall, popular = manifest.metrics.get(name), manifest.metrics.get(f"popularity {name}")
        if recall is not None and popular:
            leads[segment] = recall / popular
    return leads
