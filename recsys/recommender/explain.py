"""Why an item is in an answer, and why another is not: read off the trace of the very run that made the answer."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import Expression, compile_expression
from recsys.recommender.candidates import Scores
from recsys.recommender.pipeline import Trace
from recsys.recommender.placement import Source
from recsys.recommender.prepared import seen_items
from recsys.recommender.query import Recommendation
from recsys.users import Vector

MAX_CONTRIBUTIONS = 10


class Contribution(msgspec.Struct, frozen=True):
    """How much of the score one of the user's own items accounts for."""

    item_id: str
    score: float


class Why(msgspec.Struct, frozen=True):
    """`contributions`, the largest first, add up to the source's own score, before boosts, where all are shown.

    `boosts` that matched, and `ranks` (from 1) by stage.
    """

    source: str
    contributions: list[Contribution]
    boosts: list[str]
    ranks: dict[str, int]


class Removed(msgspec.Struct, frozen=True):
    """The first stage that the item did not pass: `available`, `filter`, `exclude`, `seen`, `min_score`,
    `candidates`, `max_per_category` or `k`.
    """

    stage: str
    reason: str


class Explanation:
    """Answers questions about one traced run."""

    def __init__(self, trace: Trace, result: Recommendation, catalogue: Catalogue) -> None:
        assert trace.prepared is not None, "a run fills its trace"  # noqa: S101
        self._prepared = trace.prepared
        self._stages = dict(trace.stages)
        self._result = result
        self._catalogue = catalogue

    def why(self) -> list[Why]:
        """One per item of the answer."""
        contributions = {source: self._contributions(source) for source in set(self._result.sources)}
        ranks = {
            name: {row: rank for rank, row in enumerate(ranked.rows.tolist(), 1)}
            for name, ranked in self._stages.items()
        }
        boosts = [(boost.when, compile_expression(boost.when)) for boost in self._prepared.query.placement.boosts]
        return [
            Why(
                source.value,
                contributions[source](row),
                [when for when, expression in boosts if expression.matches(self._catalogue.item(row))],
                {name: row_ranks[row] for name, row_ranks in ranks.items() if row in row_ranks},
            )
            for row, source in zip(self._result.rows.tolist(), self._result.sources, strict=True)
        ]

    def why_not(self, row: int) -> Removed | None:
        """The stage that removed `row`, `None` for a row that is in the answer."""
        if row in self._result.rows.tolist():
            return None
        prepared, item_id = self._prepared, self._catalogue.ids(np.array([row]))[0]
        item, query = self._catalogue.item(row), self._prepared.query
        if item is not None and item.available is False:
            return Removed("available", "the item is not available")
        for name, expression in self._filters():
            if not expression.matches(item):
                return Removed("filter", f"the {name} asks for {expression.text}")
        if item_id in query.exclude or item_id in query.visit:
            return Removed("exclude", "the request names it as excluded, or as an item of this visit")
        if item_id in seen_items(query, prepared.features):
            return Removed("seen", "the user had it before, and the placement leaves that out")
        return self._outranked(row)

    def _filters(self) -> list[tuple[str, Expression]]:
        query = self._prepared.query
        own = [("placement's filter", compile_expression(query.placement.filter))] if query.placement.filter else []
        return own + ([("request's filter", query.filter)] if query.filter else [])

    def _outranked(self, row: int) -> Removed:
        score = self._personal_score(row)
        least = self._prepared.query.placement.min_score
        if row not in self._stages["candidates"].rows.tolist():
            if least is not None and score is not None and score < least:
                return Removed("min_score", f"its personal score {score:.4g} is below {least:g}")
            note = "" if score is None else f"; its personal score is {score:.4g}"
            return Removed("candidates", f"no source ranks it among its first {len(self._stages['candidates'])}{note}")
        rank = self._stages["diversity"].rows.tolist().index(row) + 1
        if rank <= self._prepared.query.k:
            return Removed("max_per_category", f"at rank {rank}, but a category of it is full")
        return Removed("k", f"it comes at rank {rank}, and {self._prepared.query.k} were asked for")

    def _personal_score(self, row: int) -> float | None:
        vector = self._prepared.vector
        return None if vector is None else float(self._vector(row) @ vector)

    def _vector(self, row: int) -> Vector:
        vector: Vector = self._catalogue.vectors(np.array([row]))[0]
        return vector

    def _contributions(self, source: Source) -> Callable[[int], list[Contribution]]:
        """From an item's row to what each of the user's own items adds to its score."""
        prepared, catalogue = self._prepared, self._catalogue
        if source in (Source.SIMILAR, Source.CO_OCCURRENCE):
            ids, of_anchor = (
                catalogue.ids(prepared.anchors),
                self._cosines if source is Source.SIMILAR else self._together,
            )
            return lambda row: largest(ids, of_anchor(row))
        entries = prepared.session_entries if source is Source.SESSION else prepared.entries
        from_vector = source in (Source.PERSONAL, Source.NEW, Source.SESSION)
        liked_parts = catalogue.index.parts(entries) if from_vector and entries else None
        if liked_parts is None:
            return lambda _: []
        liked, parts = liked_parts
        return lambda row: largest(liked, parts @ self._vector(row))

    def _together(self, row: int) -> Scores:
        """(m,) what each anchor adds to the summed co-occurrence."""
        index = self._catalogue.index
        scores = np.zeros(len(self._prepared.anchors), np.float32)
        for position, anchor in enumerate(self._prepared.anchors.tolist()):
            if anchor < len(index):
                rows, values = index.together.of(anchor)
                scores[position] = values[rows == row].sum()
        return scores

    def _cosines(self, row: int) -> Scores:
        """(m,) what each anchor adds to the cosine with their sum."""
        vectors = self._catalogue.vectors(np.append(self._prepared.anchors, row))
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        scores: Scores = vectors[:-1] @ vectors[-1] / np.linalg.norm(vectors[:-1].sum(axis=0))
        return scores


def largest(ids: Sequence[str], scores: Scores) -> list[Contribution]:
    """The contributions of greatest absolute value, at most `MAX_CONTRIBUTIONS`, without zeros."""
    order = np.argsort(-np.abs(scores), kind="stable")[:MAX_CONTRIBUTIONS].tolist()
    return [
        Contribution(ids[position], round(float(scores[position]), 6)) for position in order if scores[position] != 0.0
    ]
