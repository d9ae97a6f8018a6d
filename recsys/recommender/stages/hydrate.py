"""Hydrate: what is worked out for each query before candidates are made; with one look-up and one solve for a batch."""

from collections.abc import Mapping, Sequence

import numpy as np

from recsys.index.factors import DAY_MS
from recsys.index.id_map import UNKNOWN
from recsys.index.index import Index
from recsys.messages.interaction import event_key
from recsys.recommender.candidates.source import ANCHORS, SESSION_VECTOR, VECTOR, Sources
from recsys.recommender.draft import Draft
from recsys.recommender.placement import ANY_TYPE, Source
from recsys.recommender.query import FallbackLevel, Query
from recsys.recommender.stages.stage import Stage
from recsys.recommender.trends import HOUR_MS
from recsys.users import HistoryEntry, UserFeatures

LAST_ITEMS = 3
"""Items of the history that stand in for a visit that has none."""
NO_SOURCES: frozenset[Source] = frozenset()


class Hydrate(Stage):
    """Fills in what filters and sources go by: rows and masks, vectors, items at hand."""

    name = "hydration"

    def run(self, drafts: Sequence[Draft], sources: Sources) -> None:
        """Look up and solve for the whole batch at once."""
        find_rows(drafts, sources.needing(ANCHORS))
        _find_vectors(drafts, sources)

    def order(self, _: Draft) -> None:
        """None yet."""


def find_rows(drafts: Sequence[Draft], anchored: frozenset[Source] = NO_SOURCES) -> None:
    """Mask and rows of drafts of one catalogue: allowed, excluded, shown lately, at hand (for `anchored` sources)."""
    ids: list[str] = []
    spans = []
    catalogue = drafts[0].catalogue
    for draft in drafts:
        query, start = draft.query, len(ids)
        draft.allowed = catalogue.allowed(query.conditions)
        ids += query.visit
        visit = len(ids)
        last = not query.visit and not anchored.isdisjoint(draft.sources)
        ids += _last_items(draft.features) if last else ()
        anchors = len(ids)
        ids += query.exclude
        ids += seen_items(query, draft.features)
        excluded = len(ids)
        ids += shown_lately(query, draft.features)
        spans.append((start, visit, anchors, excluded, len(ids)))
    if not ids:
        return
    rows = catalogue.rows(ids).tolist()
    for draft, (start, visit, anchors, excluded, end) in zip(drafts, spans, strict=True):
        if start == end:
            continue
        draft.excluded = _known(rows[start:visit] + rows[anchors:excluded])
        if excluded < end:
            draft.shown = _known(rows[excluded:end])
        if start < anchors:
            draft.anchors = np.array([row for row in rows[start:anchors] if row != UNKNOWN], np.int64)


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


def _find_vectors(drafts: Sequence[Draft], sources: Sources) -> None:
    """The first fallback level that has something to say, with one solve for all that must be folded in."""
    index, personal_sources, session_sources = (
        drafts[0].catalogue.index,
        sources.needing(VECTOR),
        sources.needing(SESSION_VECTOR),
    )
    for draft in drafts:
        if not personal_sources.isdisjoint(draft.sources):
            _stored(draft, index)
        if not session_sources.isdisjoint(draft.sources):
            last = draft.features.history[-LAST_ITEMS:] if draft.features else ()
            draft.session_entries = visit_entries(draft.query, index) or last
    personal = [draft for draft in drafts if draft.vector is None and draft.entries]
    session = [draft for draft in drafts if draft.session_entries]
    if personal or session:
        _fold_in(personal, session, index)


def _fold_in(personal: Sequence[Draft], session: Sequence[Draft], index: Index) -> None:
    """Solve for the users' and the sessions' vectors together."""
    folded = index.fold_in_many([draft.entries for draft in personal] + [draft.session_entries for draft in session])
    for draft, vector in zip(personal, folded, strict=False):
        if vector is not None:
            draft.fallback_level = FallbackLevel.FOLDED if draft.has_history else FallbackLevel.SESSION
            draft.vector = vector
        elif draft.has_history:
            _from_snapshot(draft, index)
    for draft, vector in zip(session, folded[len(personal) :], strict=True):
        draft.session_vector = vector


def _stored(draft: Draft, index: Index) -> None:
    """The stored embedding, or the snapshot where there is no history to fold in."""
    features, visit = draft.features, visit_entries(draft.query, index)
    draft.entries = (*(features.history if features else ()), *visit)
    if features and not visit:
        stored = features.embeddings.get(index.version)
        if stored is not None and stored.shape == (index.section.dimensions,):
            draft.fallback_level, draft.vector = FallbackLevel.EMBEDDING, stored
            return
    if not draft.has_history:
        _from_snapshot(draft, index)


def _from_snapshot(draft: Draft, index: Index) -> None:
    # A stored but empty record is an erased user: the snapshot must not remember them.
    if draft.query.user_id is not None and (draft.features is None or draft.features.revision == 0):
        snapshot = index.snapshot(draft.query.user_id)
        if snapshot is not None:
            draft.fallback_level, draft.vector = FallbackLevel.SNAPSHOT, snapshot


def visit_entries(query: Query, index: Index) -> tuple[HistoryEntry, ...]:
    """The items at hand as interactions at the version's reference time (so: undecayed)."""
    at, cart = index.parameters.reference_ms, len(query.cart_items)
    return tuple(
        HistoryEntry(at, event_key(item_id), item_id, "add_to_cart" if position < cart else "view")
        for position, item_id in enumerate(query.visit)
    )
