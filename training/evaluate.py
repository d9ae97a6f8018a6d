"""Evaluation through the recommender that serves: each held-out user is asked about as the service would ask."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.placement import SEEN_EVER, Candidates, Placement, Source
from recsys.recommendation import Query
from recsys.recommender import Catalogue, Index, recommend_many
from recsys.recommender.candidates import popular
from recsys.recommender.factors import confidences, decayed_weights
from recsys.user_features import HistoryEntry, UserFeatures
from training import metrics
from training.dataset import histories, newest_per_user
from training.split import Split

KS = (5, 10, 20, 50)
HEADLINE_K = 20
BATCH = 256
SEGMENTS = {"light": (1, 20), "medium": (21, 100), "heavy": (101, None)}
"""Users by how many interactions they had before the holdout."""

Progress = Callable[[str, int, int], None]
Ranked = Callable[[Sequence[UserFeatures]], list[NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class HeldOutUser:
    """What the service would remember of a user at the cutoff, and what they wanted afterwards."""

    user_id: str
    history: tuple[HistoryEntry, ...]
    past_interactions: int
    wanted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over users by metric name (`recall@20`), per-user recall@20, and what the lists showed.

    Without users there is no metric: nobody was asked.

    `shown` counts, per item row, the top-20 lists it was in; `segments` is (users, recall@20) by segment.
    """

    name: str
    metrics: dict[str, float]
    recall: NDArray[np.float64]
    segments: dict[str, tuple[int, float]]
    shown: NDArray[np.int64]


def nobody_asked(name: str) -> Evaluation:
    return Evaluation(name, {}, np.empty(0), {}, np.empty(0, dtype=np.int64))


def held_out_users(
    split: Split, history_length: int, *, exclude_seen: bool, wanted_types: Collection[str] = ()
) -> list[HeldOutUser]:
    """Users of the future who have a past; what lists leave out by themselves (`exclude_seen`) is not asked for."""
    counted = split.future.filter(pl.col("type").is_in(list(wanted_types))) if wanted_types else split.future
    future = counted.group_by("user_id").agg(pl.col("item_id").unique())
    wanted = {user: frozenset(items) for user, items in future.iter_rows()}
    past = split.past.filter(pl.col("user_id").is_in(list(wanted)))
    lengths = dict(past.group_by("user_id").len().iter_rows())
    users = []
    for user, history in histories(newest_per_user(past, history_length)):
        asked = wanted[user] - {entry.item_id for entry in history} if exclude_seen else wanted[user]
        if asked:
            users.append(HeldOutUser(user, history, lengths[user], asked))
    return users


def evaluate_model(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, exclude_seen: bool, progress: Progress
) -> Evaluation:
    """Ask `recommend` as the service does, with the embedding the consumer would have stored."""

    placement = _placement(Source.PERSONAL, exclude_seen)

    def ranked(batch: Sequence[UserFeatures]) -> list[NDArray[np.int64]]:
        vectors = catalogue.index.fold_in_many([features.history for features in batch])
        asked = []
        for features, vector in zip(batch, vectors, strict=True):
            stored = {} if vector is None else {catalogue.index.version: vector}
            known = UserFeatures(features.user_id, features.history, embeddings=stored, revision=1)
            asked.append((Query(k=max(KS), user_id=features.user_id, placement=placement), known))
        return [answer.rows for answer in recommend_many(asked, catalogue)]

    return _evaluate(name, catalogue, users, ranked, progress)


def evaluate_popularity(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, exclude_seen: bool, progress: Progress
) -> Evaluation:
    """The popular rung for everybody: what the service answers when it knows nothing of a user."""
    query = Query(k=max(KS), placement=_placement(Source.POPULAR, exclude_seen))

    def ranked(batch: Sequence[UserFeatures]) -> list[NDArray[np.int64]]:
        return [answer.rows for answer in recommend_many([(query, one) for one in batch], catalogue)]

    return _evaluate(name, catalogue, users, ranked, progress)


def _placement(source: Source, exclude_seen: bool) -> Placement:
    return Placement(sources=(Candidates(source),), exclude_seen=SEEN_EVER if exclude_seen else {})


def evaluate_own_history(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], *, progress: Progress
) -> Evaluation:
    """Each user's own items again, the largest confidence first, then popular ones.

    The yardstick of whoever sells the same thing twice, and a hard one: Li et al., "A Next Basket Recommendation
    Reality Check" (TOIS 2023).
    """
    index = catalogue.index

    def own_first(features: UserFeatures) -> NDArray[np.int64]:
        rows = index.item_id.rows(entry.item_id for entry in features.history)
        weights = decayed_weights(features.history, index.parameters)
        own, confidence = confidences(rows, weights, index.parameters.alpha)
        own = own[np.lexsort((-index.popularity[own], -confidence))][: max(KS)]
        others = popular(catalogue, None, frozenset(own.tolist()), max(KS))
        return np.concatenate([own, others.rows])[: max(KS)]

    return _evaluate(name, catalogue, users, lambda batch: [own_first(one) for one in batch], progress)


def _evaluate(
    name: str, catalogue: Catalogue, users: list[HeldOutUser], ranked: Ranked, progress: Progress
) -> Evaluation:
    index = catalogue.index
    scores: dict[str, list[float]] = {f"{metric}@{k}": [] for metric in _METRICS for k in KS}
    shown = np.zeros(len(index), dtype=np.int64)
    waiting = iter(users)
    done = 0
    while batch := list(islice(waiting, BATCH)):
        answers = ranked([UserFeatures(one.user_id, one.history, revision=1) for one in batch])
        for user, rows in zip(batch, answers, strict=True):
            wanted = index.item_id.rows(user.wanted)
            hits = np.isin(rows, wanted[wanted >= 0])
            shown[rows[:HEADLINE_K]] += 1
            for metric, function in _METRICS.items():
                for k in KS:
                    # Wanted items that the index does not know count as missed, not as absent.
                    scores[f"{metric}@{k}"].append(function(hits, len(user.wanted), k))
        done += len(batch)
        progress(f"evaluating {name}", done, len(users))
    if not users:
        return nobody_asked(name)
    means = {key: float(np.mean(values)) for key, values in scores.items()}
    means[f"coverage@{HEADLINE_K}"] = float((shown > 0).mean())
    means[f"novelty@{HEADLINE_K}"] = novelty(index, shown, users)
    recalls = np.array(scores[f"recall@{HEADLINE_K}"])
    return Evaluation(name, means, recalls, _segments(users, recalls), shown)


def novelty(index: Index, shown: NDArray[np.int64], users: list[HeldOutUser]) -> float:
    """Mean self-information, -log2 of the share of users who know an item, over everything shown, in bits.

    Vargas & Castells, "Rank and Relevance in Novelty and Diversity Metrics" (RecSys 2011). An item nobody
    knows counts as known by one user.
    """
    if not shown.sum():
        return 0.0
    known_by = np.zeros(len(index))
    for user in users:
        rows = np.unique(index.item_id.rows(entry.item_id for entry in user.history))
        known_by[rows[rows >= 0]] += 1
    information = -np.log2(np.maximum(known_by, 1.0) / len(users))
    return float((information * shown).sum() / shown.sum())


def _segments(users: list[HeldOutUser], recalls: NDArray[np.float64]) -> dict[str, tuple[int, float]]:
    lengths = np.array([user.past_interactions for user in users])
    found = {}
    for name, (low, high) in SEGMENTS.items():
        inside = (lengths >= low) & (lengths <= (np.inf if high is None else high))
        if inside.any():
            found[name] = (int(inside.sum()), float(recalls[inside].mean()))
    return found


_METRICS = {"recall": metrics.recall, "ndcg": metrics.ndcg, "map": metrics.average_precision, "hit": metrics.hit}
