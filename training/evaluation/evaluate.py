"""Evaluation through the recommender that serves: each held-out user gets the lists the service would give."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.catalogue.catalogue import Catalogue
from recsys.index.factors import confidences, decayed_weights
from recsys.index.index import Index
from recsys.recommender.candidates.demand import popular
from recsys.recommender.pipeline import recommend_many
from recsys.recommender.placement import SEEN_EVER, Candidates, Placement, Source
from recsys.recommender.query import Query
from recsys.users import HistoryEntry, UserFeatures
from training.evaluation import metrics
from training.evaluation.splits import Split
from training.recommender.dataset import histories, newest_per_user
from training.settings import SegmentSettings

KS = (5, 10, 20, 50)
HEADLINE_K = 20
BATCH = 256
USER_SEGMENTS = ("new users", "light users", "heavy users")
ITEM_SEGMENTS = ("head items", "tail items")
DEFAULT_SEGMENTS = SegmentSettings()
Progress = Callable[[str, int, int], None]
Ranker = Callable[[Sequence[UserFeatures]], list[NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class HeldOutUser:
    """A user's history as the service would hold it at the cutoff, and the items wanted afterwards (`targets`).

    `segment` is by the number of interactions before the cutoff; `head` are the targets among the most wanted items.
    """

    user_id: str
    history: tuple[HistoryEntry, ...]
    past_interactions: int
    targets: frozenset[str]
    segment: str = "light users"
    head: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over users by metric name (`recall@20`), per-user recall@20, and what the lists showed.

    Without users there is no metric.

    `list_counts` counts, per item row, the top-20 lists it was in; `segments` is recall@20 (users,) by segment, nan for
    users outside it or without a target in it.
    """

    name: str
    metrics: dict[str, float]
    recall: NDArray[np.float64]
    segments: dict[str, NDArray[np.float64]]
    list_counts: NDArray[np.int64]

    def summary(self) -> dict[str, float]:
        """Return the means for the manifest, those of the segments too."""
        means = {
            f"recall@{HEADLINE_K} of {name}": float(np.nanmean(values))
            for name, values in self.segments.items()
            if not np.isnan(values).all()
        }
        return self.metrics | means


def empty_evaluation(name: str) -> Evaluation:
    """Return the evaluation of a model on no users: no metrics, empty arrays."""
    return Evaluation(name, {}, np.empty(0), {}, np.empty(0, dtype=np.int64))


def held_out_users(
    split: Split,
    history_length: int,
    *,
    exclude_seen: bool,
    wanted_types: Collection[str] = (),
    segments: SegmentSettings = DEFAULT_SEGMENTS,
) -> list[HeldOutUser]:
    """Return users of the future who have a past; with `exclude_seen` items of their history are no targets."""
    counted = split.future.filter(pl.col("type").is_in(list(wanted_types))) if wanted_types else split.future
    future = counted.group_by("user_id").agg(pl.col("item_id").unique())
    targets_by_user = {user: frozenset(items) for user, items in future.iter_rows()}
    past = split.past.filter(pl.col("user_id").is_in(list(targets_by_user)))
    lengths = dict(past.group_by("user_id").len().iter_rows())
    head = _head_items(split.past, segments.head)
    users = []
    for user, history in histories(newest_per_user(past, history_length)):
        targets = (
            targets_by_user[user] - {entry.item_id for entry in history} if exclude_seen else targets_by_user[user]
        )
        if targets:
            kind = _kind(lengths[user], segments)
            users.append(HeldOutUser(user, history, lengths[user], targets, kind, targets & head))
    return users


def _kind(interactions: int, segments: SegmentSettings) -> str:
    if interactions <= segments.new_up_to:
        return "new users"
    return "light users" if interactions <= segments.light_up_to else "heavy users"


def _head_items(past: pl.DataFrame, share: float) -> frozenset[str]:
    demand = past.group_by("item_id").agg(pl.col("user_id").n_unique().alias("users"))
    head = demand.sort("users", "item_id", descending=[True, False]).head(math.ceil(share * demand.height))
    return frozenset(head["item_id"].to_list())


def evaluate_model(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, exclude_seen: bool, progress: Progress
) -> Evaluation:
    """Evaluate `recommend` as the service calls it, with the embedding the consumer would have stored."""

    placement = _placement(Source.PERSONAL, exclude_seen)

    def rank(batch: Sequence[UserFeatures]) -> list[NDArray[np.int64]]:
        """Return each user's recommended item rows, best first."""
        vectors = catalogue.index.fold_in_many([features.history for features in batch])
        queries = []
        for features, vector in zip(batch, vectors, strict=True):
            stored = {} if vector is None else {catalogue.index.version: vector}
            user = UserFeatures(features.user_id, features.history, embeddings=stored, revision=1)
            queries.append((Query(k=max(KS), user_id=features.user_id, placement=placement), user))
        return [answer.rows for answer in recommend_many(queries, catalogue)]

    return _evaluate(name, catalogue, users, rank, progress)


def evaluate_popularity(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, exclude_seen: bool, progress: Progress
) -> Evaluation:
    """Evaluate the popular fallback: what the service answers for an unknown user."""
    query = Query(k=max(KS), placement=_placement(Source.POPULAR, exclude_seen))

    def rank(batch: Sequence[UserFeatures]) -> list[NDArray[np.int64]]:
        """Return the popular item rows for each user, best first."""
        return [answer.rows for answer in recommend_many([(query, features) for features in batch], catalogue)]

    return _evaluate(name, catalogue, users, rank, progress)


def _placement(source: Source, exclude_seen: bool) -> Placement:
    return Placement(sources=(Candidates(source),), exclude_seen=SEEN_EVER if exclude_seen else {})


def evaluate_own_history(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, progress: Progress
) -> Evaluation:
    """Evaluate each user's own items, the largest confidence first, then popular ones.

    A hard yardstick where the same things are bought again: Li et al., "A Next Basket Recommendation
    Reality Check" (TOIS 2023).
    """
    index = catalogue.index

    def own_first(features: UserFeatures) -> NDArray[np.int64]:
        """Return the item rows of the user's own items, largest confidence first, then popular ones."""
        rows = index.item_id.rows(entry.item_id for entry in features.history)
        weights = decayed_weights(features.history, index.parameters)
        own, confidence = confidences(rows, weights, index.parameters.alpha)
        own = own[np.lexsort((-index.popularity[own], -confidence))][: max(KS)]
        others = popular(catalogue, None, frozenset(own.tolist()), max(KS))
        return np.concatenate([own, others.rows])[: max(KS)]

    return _evaluate(name, catalogue, users, lambda batch: [own_first(features) for features in batch], progress)


def _evaluate(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], rank: Ranker, progress: Progress
) -> Evaluation:
    index = catalogue.index
    scores: dict[str, list[float]] = {f"{metric}@{k}": [] for metric in _METRICS for k in KS}
    list_counts = np.zeros(len(index), dtype=np.int64)
    of_head: list[tuple[float, float]] = []
    waiting = iter(users)
    done = 0
    while batch := list(islice(waiting, BATCH)):
        answers = rank([UserFeatures(user.user_id, user.history, revision=1) for user in batch])
        for user, rows in zip(batch, answers, strict=True):
            targets = index.item_id.rows(user.targets)
            hits = np.isin(rows, targets[targets >= 0])
            list_counts[rows[:HEADLINE_K]] += 1
            of_head.append(_head_and_tail(user, index.item_id.ids(rows[:HEADLINE_K][hits[:HEADLINE_K]])))
            for metric, function in _METRICS.items():
                for k in KS:
                    # Wanted items that the index does not know count as missed, not as absent.
                    scores[f"{metric}@{k}"].append(function(hits, len(user.targets), k))
        done += len(batch)
        progress(f"evaluating {name}", done, len(users))
    if not users:
        return empty_evaluation(name)
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    means[f"coverage@{HEADLINE_K}"] = float((list_counts > 0).mean())
    known_by = _known_by(index, users)
    means[f"novelty@{HEADLINE_K}"] = novelty(known_by, list_counts, len(users))
    means[f"popularity_lift@{HEADLINE_K}"] = popularity_lift(known_by, list_counts)
    recalls = np.array(scores[f"recall@{HEADLINE_K}"])
    return Evaluation(name, means, recalls, _segments(users, recalls, np.array(of_head)), list_counts)


def _known_by(index: Index, users: list[HeldOutUser]) -> NDArray[np.float64]:
    """Return (n,) how many of the users have each item in their history."""
    known_by = np.zeros(len(index))
    for user in users:
        rows = np.unique(index.item_id.rows(entry.item_id for entry in user.history))
        known_by[rows[rows >= 0]] += 1
    return known_by


def novelty(known_by: NDArray[np.float64], list_counts: NDArray[np.int64], users: int) -> float:
    """Return the mean self-information, -log2 of the share of users who know an item, over everything shown, in bits.

    Vargas & Castells, "Rank and Relevance in Novelty and Diversity Metrics" (RecSys 2011). An item that
    no user knows counts as known by one.
    """
    information = -np.log2(np.maximum(known_by, 1.0) / users)
    return float((information * list_counts).sum() / max(list_counts.sum(), 1))


def popularity_lift(known_by: NDArray[np.float64], list_counts: NDArray[np.int64]) -> float:
    """Return how much more popular shown items are than those users had: 0 equally popular, 1 twice as popular.

    The difference in group average popularity of Abdollahpouri et al., "The Unfairness of Popularity Bias in
    Recommendation" (RMSE at RecSys 2019), over all users.
    """
    had = (known_by * known_by).sum() / max(known_by.sum(), 1.0)
    return float((known_by * list_counts).sum() / max(list_counts.sum(), 1) / had - 1.0) if had else 0.0


def _head_and_tail(user: HeldOutUser, hit_ids: list[str]) -> tuple[float, float]:
    """Return recall of the targets in the head, and of the others; nan where there are none."""
    of_head = len(user.head.intersection(hit_ids))
    tail = len(user.targets) - len(user.head)
    return (
        of_head / len(user.head) if user.head else np.nan,
        (len(hit_ids) - of_head) / tail if tail else np.nan,
    )


def _segments(
    users: list[HeldOutUser], recalls: NDArray[np.float64], of_head: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    kinds = np.array([user.segment for user in users])
    by_user = {kind: np.where(kinds == kind, recalls, np.nan) for kind in USER_SEGMENTS}
    return by_user | dict(zip(ITEM_SEGMENTS, of_head.T, strict=True))


_METRICS = {"recall": metrics.recall, "ndcg": metrics.ndcg, "map": metrics.average_precision, "hit": metrics.hit}
