"""What is worked out for each query before candidates are made; for a whole batch with one look-up and one solve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import Expression, compile_expression
from recsys.index.allowed import AllowedRows
from recsys.index.factors import DAY_MS
from recsys.index.id_map import UNKNOWN
from recsys.index.index import Index
from recsys.messages.interaction import event_key
from recsys.recommender.candidates import NOTHING, Rows
from recsys.recommender.placement import ANY_TYPE, Placement, Source
from recsys.recommender.query import FallbackLevel, Query
from recsys.users import HistoryEntry, UserFeatures, Vector

HOUR_MS = 3_600_000
LAST_ITEMS = 3
"""Items of the history that stand in for a visit that has none."""
NEEDS_VECTOR = frozenset({Source.PERSONAL, Source.NEW})
NEEDS_ANCHORS = frozenset({Source.SESSION, Source.SIMILAR, Source.CO_OCCURRENCE})

QueryFeatures = tuple[Query, UserFeatures | None]


@dataclass(slots=True)
class Prepared:
    """One query with its vector (d,) and the fallback level that came from, and the rows that play a part in it.

    `entries` is the history behind a vector that was or could be folded in, `session_entries` that behind the
    session's. `anchors` are the items at hand.
    """

    query: Query
    features: UserFeatures | None
    allowed: AllowedRows | None
    sources: frozenset[Source]
    excluded: frozenset[int] = frozenset()
    shown: frozenset[int] = frozenset()
    anchors: Rows = field(default_factory=lambda: NOTHING.rows)
    fallback_level: FallbackLevel = FallbackLevel.POPULAR
    vector: Vector | None = None
    session_vector: Vector | None = None
    entries: tuple[HistoryEntry, ...] = ()
    session_entries: tuple[HistoryEntry, ...] = ()

    @property
    def has_history(self) -> bool:
        """Whether any interaction of the user is known."""
        return self.features is not None and bool(self.features.history)


def prepare(queries: Sequence[QueryFeatures], catalogue: Catalogue) -> list[Prepared]:
    """Everything that can be done for the whole batch at once."""
    batch = [
        Prepared(query, features, catalogue.allowed(_conditions(query)), sources_of(query.placement))
        for query, features in queries
    ]
    _find_rows(batch, catalogue)
    _find_vectors(batch, catalogue.index)
    return batch


def sources_of(placement: Placement) -> frozenset[Source]:
    """The sources of candidates and of the fallback of `placement`."""
    return frozenset((*(candidates.source for candidates in placement.sources), *placement.fallback))


def has_masks(queries: Sequence[Query], catalogue: Catalogue) -> bool:
    """Whether the masks of all these queries are cached; a new filter is work for a thread."""
    return all(query.is_plain or catalogue.has_mask(_conditions(query)) for query in queries)


def _conditions(query: Query) -> tuple[Expression, ...]:
    text = query.placement.filter
    if not text:
        return () if query.filter is None else (query.filter,)
    own = compile_expression(text)
    return (own,) if query.filter is None else (own, query.filter)


def _find_rows(batch: Sequence[Prepared], catalogue: Catalogue) -> None:
    """Ids to rows: never to be shown, shown lately, at hand."""
    ids: list[str] = []
    spans = []
    for prepared in batch:
        query, start = prepared.query, len(ids)
        ids += query.visit
        visit = len(ids)
        last = not query.visit and not NEEDS_ANCHORS.isdisjoint(prepared.sources)
        ids += _last_items(prepared.features) if last else ()
        anchors = len(ids)
        ids += query.exclude
        ids += seen_items(query, prepared.features)
        excluded = len(ids)
        ids += shown_lately(query, prepared.features)
        spans.append((start, visit, anchors, excluded, len(ids)))
    if not ids:
        return
    rows = catalogue.rows(ids).tolist()
    for prepared, (start, visit, anchors, excluded, end) in zip(batch, spans, strict=True):
        if start == end:
            continue
        prepared.excluded = _known(rows[start:visit] + rows[anchors:excluded])
        if excluded < end:
            prepared.shown = _known(rows[excluded:end])
        if start < anchors:
            prepared.anchors = np.array([row for row in rows[start:anchors] if row != UNKNOWN], np.int64)


def _known(rows: Sequence[int]) -> frozenset[int]:
    row_set = frozenset(rows)
    return row_set - {UNKNOWN} if UNKNOWN in row_set else row_set


def _last_items(features: UserFeatures | None) -> list[str]:
    newest_first = dict.fromkeys(entry.item_id for entry in reversed(features.history)) if features else {}
    return list(newest_first)[:LAST_ITEMS]


def seen_items(query: Query, features: UserFeatures | None) -> set[str]:
    """Items that the placement's `exclude_seen` leaves out for this user."""
    rules: Mapping[str, float] = query.placement.exclude_seen
    if not rules or features is None:
        return set()
    since = {kind: query.now_ms - days * DAY_MS for kind, days in rules.items()}
    if len(since) == 1 and since.get(ANY_TYPE, 0.0) < 0.0:
        return {entry.item_id for entry in features.history}
    default_since = since.get(ANY_TYPE, float("inf"))
    return {entry.item_id for entry in features.history if entry.at_ms >= since.get(entry.type, default_since)}


def shown_lately(query: Query, features: UserFeatures | None) -> set[str]:
    """Items that were shown to the user within the placement's `rotate_hours`."""
    if not query.placement.rotate_hours or features is None:
        return set()
    since = query.now_ms - query.placement.rotate_hours * HOUR_MS
    return {entry.item_id for entry in features.impressions if entry.at_ms >= since}


def _find_vectors(batch: Sequence[Prepared], index: Index) -> None:
    """The first fallback level that has something to say, with one solve for all that must be folded in."""
    for prepared in batch:
        if not NEEDS_VECTOR.isdisjoint(prepared.sources):
            _stored(prepared, index)
        if Source.SESSION in prepared.sources:
            last = prepared.features.history[-LAST_ITEMS:] if prepared.features else ()
            prepared.session_entries = visit_entries(prepared.query, index) or last
    personal = [prepared for prepared in batch if prepared.vector is None and prepared.entries]
    session = [prepared for prepared in batch if prepared.session_entries]
    if not personal and not session:
        return
    folded = index.fold_in_many(
        [prepared.entries for prepared in personal] + [prepared.session_entries for prepared in session]
    )
    for prepared, vector in zip(personal, folded, strict=False):
        if vector is not None:
            prepared.fallback_level, prepared.vector = (
                (FallbackLevel.FOLDED if prepared.has_history else FallbackLevel.SESSION),
                vector,
            )
        elif prepared.has_history:
            _from_snapshot(prepared, index)
    for prepared, vector in zip(session, folded[len(personal) :], strict=True):
        prepared.session_vector = vector


def _stored(prepared: Prepared, index: Index) -> None:
    """The stored embedding, or the snapshot where there is no history to fold in."""
    features, visit = prepared.features, visit_entries(prepared.query, index)
    prepared.entries = (*(features.history if features else ()), *visit)
    if features and not visit:
        stored = features.embeddings.get(index.version)
        if stored is not None and stored.shape == (index.manifest.dimensions,):
            prepared.fallback_level, prepared.vector = FallbackLevel.EMBEDDING, stored
            return
    if not prepared.has_history:
        _from_snapshot(prepared, index)


def _from_snapshot(prepared: Prepared, index: Index) -> None:
    # A stored but empty record is an erased user: the snapshot must not remember them.
    if prepared.query.user_id is not None and (prepared.features is None or prepared.features.revision == 0):
        snapshot = index.snapshot(prepared.query.user_id)
        if snapshot is not None:
            prepared.fallback_level, prepared.vector = FallbackLevel.SNAPSHOT, snapshot


def visit_entries(query: Query, index: Index) -> tuple[HistoryEntry, ...]:
    """The items at hand as interactions at the version's reference time (so: undecayed)."""
    at, cart = index.parameters.reference_ms, len(query.cart_items)
    return tuple(
        HistoryEntry(at, event_key(item_id), item_id, "add_to_cart" if position < cart else "view")
        for position, item_id in enumerate(query.visit)
    )
