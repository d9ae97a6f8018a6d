"""The recommender: a pure function of query, features and index; the same offline and online."""

import numpy as np
from numpy.typing import NDArray

from recsys.errors import NotFound
from recsys.interaction import event_key
from recsys.recommendation import Filter, Query, Recommendation, Rung, Source
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.id_map import UNKNOWN
from recsys.recommender.index import Index
from recsys.user_features import HistoryEntry, UserFeatures, Vector

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

_SOURCE_OF = {
    Rung.EMBEDDING: Source.PERSONAL,
    Rung.FOLDED: Source.PERSONAL,
    Rung.SNAPSHOT: Source.PERSONAL,
    Rung.SESSION: Source.SESSION,
}


def recommend(query: Query, features: UserFeatures | None, catalogue: Catalogue) -> Recommendation:
    """Up to `query.k` distinct items that are available, pass the filter and are not excluded.

    `features` is `None` when they could not be read (or there is no user to read). The best rung of
    the ladder that has something to say answers: stored embedding, fold-in of the history, snapshot in
    the version, session, popular.
    """
    index = catalogue.index
    rung, vector = user_vector(query, features, index)
    excluded = excluded_rows(query, features, index)
    allowed = catalogue.allowed(query.filter)
    if vector is None:
        rows, scores = popular(index, query.k, excluded, allowed)
        return Recommendation(index.version, rung, rows, scores, (Source.POPULAR,) * len(rows))
    rows, scores = nearest(index, vector, query.k, excluded, allowed)
    return Recommendation(index.version, rung, rows, scores, (_SOURCE_OF[rung],) * len(rows))


def similar(item_id: str, k: int, catalogue: Catalogue, condition: Filter | None = None) -> Recommendation:
    """The k items whose factors have the largest cosine with those of `item_id`. Raises `NotFound`."""
    index = catalogue.index
    row = index.item_id.row(item_id)
    if row == UNKNOWN:
        raise NotFound("item", item_id)
    cosine = (index.item_factors @ index.item_factors[row]) * (index.inverse_norms * index.inverse_norms[row])
    rows, scores = _best(cosine, k, frozenset({row}), catalogue.allowed(condition))
    return Recommendation(index.version, Rung.EMBEDDING, rows, scores, (Source.SIMILAR,) * len(rows))


def user_vector(query: Query, features: UserFeatures | None, index: Index) -> tuple[Rung, Vector | None]:
    """The vector (d,) to search with and the rung it came from; `None` on the popular rung."""
    history = features.history if features else ()
    if features and not query.session_items:
        stored = features.embeddings.get(index.version)
        if stored is not None and stored.shape == (index.manifest.dimensions,):
            return Rung.EMBEDDING, stored
    if history:
        folded = index.fold_in((*history, *session_entries(query, index)))
        if folded is not None:
            return Rung.FOLDED, folded
    # A stored but empty record is an erased user: the snapshot must not remember them.
    if query.user_id is not None and (features is None or features.revision == 0):
        snapshot = index.snapshot(query.user_id)
        if snapshot is not None:
            return Rung.SNAPSHOT, snapshot
    if query.session_items:
        folded = index.fold_in(session_entries(query, index))
        if folded is not None:
            return Rung.SESSION, folded
    return Rung.POPULAR, None


def session_entries(query: Query, index: Index) -> tuple[HistoryEntry, ...]:
    """The items of this visit as views that happen at the version's reference time (so: undecayed)."""
    at = index.parameters.reference_ms
    return tuple(HistoryEntry(at, event_key(one), one, "view") for one in query.session_items)


def excluded_rows(query: Query, features: UserFeatures | None, index: Index) -> frozenset[int]:
    """Rows never to show: asked to leave out, in this session, and (if the query says so) seen before."""
    ids = [*query.exclude, *query.session_items]
    if query.exclude_seen and features:
        ids += {entry.item_id for entry in features.history}
    return frozenset(index.item_id.rows(ids).tolist()) - {UNKNOWN}


def popular(index: Index, k: int, excluded: frozenset[int], allowed: NDArray[np.bool_] | None) -> tuple[Rows, Scores]:
    """The k most popular rows that may be shown, with their popularity in [0, 1] as score."""
    rows = index.popular_rows
    rows = (rows if allowed is None else rows[allowed[rows]])[: k + len(excluded)]
    rows = rows[_kept(rows, excluded)][:k]
    return rows, np.asarray(index.popularity[rows])


def nearest(
    index: Index, vector: Vector, k: int, excluded: frozenset[int], allowed: NDArray[np.bool_] | None
) -> tuple[Rows, Scores]:
    """The k rows that may be shown with the largest inner product with `vector`, best first."""
    if allowed is not None:
        return _best(index.item_factors @ vector, k, excluded, allowed)
    rows, scores = index.search(vector, k + len(excluded))
    kept = _kept(rows, excluded)[:k]
    return rows[kept], scores[kept]


def _kept(rows: Rows, excluded: frozenset[int]) -> list[int]:
    """Places in `rows` that are not excluded; for the few dozen rows of an answer a set beats np.isin."""
    return [place for place, row in enumerate(rows.tolist()) if row not in excluded]


def _best(scores: Scores, k: int, excluded: frozenset[int], allowed: NDArray[np.bool_] | None) -> tuple[Rows, Scores]:
    """The k largest of `scores` (n,) among rows allowed and not excluded; ties by row."""
    candidates = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    if excluded:
        candidates = candidates[~np.isin(candidates, list(excluded))]
    chosen = scores[candidates]
    if len(candidates) > k:
        top = np.argpartition(-chosen, k)[: k + 1]
        top.sort()
        candidates, chosen = candidates[top], chosen[top]
    order = np.argsort(-chosen, kind="stable")[:k]
    return candidates[order], np.asarray(chosen[order])
