"""What is worked out for each query before candidates are made; for a whole batch with one look-up and one solve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.expression import Expression, compile_expression
from recsys.interaction import event_key
from recsys.placement import ANY_TYPE, Placement, Source
from recsys.recommendation import FallbackLevel, Query
from recsys.recommender.allowed import Allowed
from recsys.recommender.candidates import NOTHING, Rows
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.factors import DAY_MS
from recsys.recommender.id_map import UNKNOWN
from recsys.recommender.index import Index
from recsys.user_features import HistoryEntry, UserFeatures, Vector

HOUR_MS = 3_600_000
LAST_ITEMS = 3
"""Items of the history that stand in for a visit that has none."""
NEEDS_VECTOR = frozenset({Source.PERSONAL, Source.NEW})
NEEDS_ANCHORS = frozenset({Source.SESSION, Source.SIMILAR, Source.CO_OCCURRENCE})

Asked = tuple[Query, UserFeatures | None]


@dataclass(slots=True)
class Prepared:
    """One query with its vector (d,) and the fallback level that came from, and the rows that play a part in it.

    `entries` is the history behind a vector that was or could be folded in, `session_entries` that behind the
    session's. `anchors` are the items at hand.
    """

    query: Query
    features: UserFeatures | None
    allowed: Allowed | None
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
        return self.features is not None and bool(self.features.history)


def prepare(asked: Sequence[Asked], catalogue: Catalogue) -> list[Prepared]:
    """Everything that can be done for the whole batch at once."""
    prepared = [
        Prepared(query, features, catalogue.allowed(_conditions(query)), sources_of(query.placement))
        for query, features in asked
    ]
    _find_rows(prepared, catalogue)
    _find_vectors(prepared, catalogue.index)
    return prepared


def sources_of(placement: Placement) -> frozenset[Source]:
    """Every source it may draw on."""
    return frozenset((*(one.source for one in placement.sources), *placement.fallback))


def has_masks(queries: Sequence[Query], catalogue: Catalogue) -> bool:
    """Whether what these filter by is at hand; a filter that nobody asked for yet is work for a thread."""
    return all(query.is_plain or catalogue.has_mask(_conditions(query)) for query in queries)


def _conditions(query: Query) -> tuple[Expression, ...]:
    text = query.placement.filter
    if not text:
        return () if query.filter is None else (query.filter,)
    own = compile_expression(text)
    return (own,) if query.filter is None else (own, query.filter)


def _find_rows(prepared: Sequence[Prepared], catalogue: Catalogue) -> None:
    """Ids to rows: never to be shown, shown lately, at hand."""
    wanted: list[str] = []
    spans = []
    for one in prepared:
        query, start = one.query, len(wanted)
        wanted += query.visit
        visit = len(wanted)
        last = not query.visit and not NEEDS_ANCHORS.isdisjoint(one.sources)
        wanted += _last_items(one.features) if last else ()
        anchors = len(wanted)
        wanted += query.exclude
        wanted += seen_items(query, one.features)
        excluded = len(wanted)
        wanted += shown_lately(query, one.features)
        spans.append((start, visit, anchors, excluded, len(wanted)))
    if not wanted:
        return
    rows = catalogue.rows(wanted).tolist()
    for one, (start, visit, anchors, excluded, end) in zip(prepared, spans, strict=True):
        if start == end:
            continue
        one.excluded = _known(rows[start:visit] + rows[anchors:excluded])
        if excluded < end:
            one.shown = _known(rows[excluded:end])
        if start < anchors:
            one.anchors = np.array([row for row in rows[start:anchors] if row != UNKNOWN], np.int64)


def _known(rows: Sequence[int]) -> frozenset[int]:
    found = frozenset(rows)
    return found - {UNKNOWN} if UNKNOWN in found else found


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
    other = since.get(ANY_TYPE, float("inf"))
    return {entry.item_id for entry in features.history if entry.at_ms >= since.get(entry.type, other)}


def shown_lately(query: Query, features: UserFeatures | None) -> set[str]:
    if not query.placement.rotate_hours or features is None:
        return set()
    since = query.now_ms - query.placement.rotate_hours * HOUR_MS
    return {entry.item_id for entry in features.shown if entry.at_ms >= since}


def _find_vectors(prepared: Sequence[Prepared], index: Index) -> None:
    """The first fallback level that has something to say, with one solve for all that must be folded in."""
    for one in prepared:
        if not NEEDS_VECTOR.isdisjoint(one.sources):
            _stored(one, index)
        if Source.SESSION in one.sources:
            last = one.features.history[-LAST_ITEMS:] if one.features else ()
            one.session_entries = visit_entries(one.query, index) or last
    personal = [one for one in prepared if one.vector is None and one.entries]
    session = [one for one in prepared if one.session_entries]
    if not personal and not session:
        return
    folded = index.fold_in_many([one.entries for one in personal] + [one.session_entries for one in session])
    for one, vector in zip(personal, folded, strict=False):
        if vector is not None:
            one.fallback_level, one.vector = (
                (FallbackLevel.FOLDED if one.has_history else FallbackLevel.SESSION),
                vector,
            )
        elif one.has_history:
            _from_snapshot(one, index)
    for one, vector in zip(session, folded[len(personal) :], strict=True):
        one.session_vector = vector


def _stored(one: Prepared, index: Index) -> None:
    """The stored embedding, or the snapshot where there is no history to fold in."""
    features, visit = one.features, visit_entries(one.query, index)
    one.entries = (*(features.history if features else ()), *visit)
    if features and not visit:
        stored = features.embeddings.get(index.version)
        if stored is not None and stored.shape == (index.manifest.dimensions,):
            one.fallback_level, one.vector = FallbackLevel.EMBEDDING, stored
            return
    if not one.has_history:
        _from_snapshot(one, index)


def _from_snapshot(one: Prepared, index: Index) -> None:
    # A stored but empty record is an erased user: the snapshot must not remember them.
    if one.query.user_id is not None and (one.features is None or one.features.revision == 0):
        snapshot = index.snapshot(one.query.user_id)
        if snapshot is not None:
            one.fallback_level, one.vector = FallbackLevel.SNAPSHOT, snapshot


def visit_entries(query: Query, index: Index) -> tuple[HistoryEntry, ...]:
    """The items at hand as interactions at the version's reference time (so: undecayed)."""
    at, cart = index.parameters.reference_ms, len(query.cart_items)
    return tuple(
        HistoryEntry(at, event_key(one), one, "add_to_cart" if place < cart else "view")
        for place, one in enumerate(query.visit)
    )
