"""Why an item is in an answer, and why another is not: read off the trace of the very run that made the answer."""

import msgspec

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import compile_expression
from recsys.recommender.candidates.source import Contribution
from recsys.recommender.draft import NO_ORDER
from recsys.recommender.query import Recommendation
from recsys.recommender.stages.stage import Removed, Trace


class Why(msgspec.Struct, frozen=True):
    """`contributions`, the largest first, add up to the source's own score, before boosts, where all are shown.

    `boosts` that matched, and `ranks` (from 1) by stage.
    """

    source: str
    contributions: list[Contribution]
    boosts: list[str]
    ranks: dict[str, int]


class Explanation:
    """Answers questions about one traced run."""

    def __init__(self, trace: Trace, result: Recommendation, catalogue: Catalogue) -> None:
        assert trace.draft is not None, "a run fills its trace"  # noqa: S101
        assert trace.sources is not None, "a run fills its trace"  # noqa: S101
        self._draft = trace.draft
        self._sources = trace.sources
        self._orders = trace.orders
        self._result = result
        self._catalogue = catalogue

    def why(self) -> list[Why]:
        """One per item of the answer."""
        contributions = {
            source: self._sources[source].contributions(self._draft) for source in set(self._result.sources)
        }
        ranks = {
            stage.name: {row: rank for rank, row in enumerate(order.rows.tolist(), 1)} for stage, order in self._orders
        }
        boosts = [(boost.when, compile_expression(boost.when)) for boost in self._draft.query.placement.boosts]
        return [
            Why(
                str(source),
                contributions[source](row),
                [when for when, expression in boosts if expression.matches(self._catalogue.item(row))],
                {name: row_ranks[row] for name, row_ranks in ranks.items() if row in row_ranks},
            )
            for row, source in zip(self._result.rows.tolist(), self._result.sources, strict=True)
        ]

    def why_not(self, row: int) -> Removed | None:
        """The first stage without `row`, and its reason; `None` for a row that is in the answer."""
        if row in self._result.rows.tolist():
            return None
        previous = NO_ORDER
        for stage, order in self._orders:
            if row not in order.rows.tolist():
                return stage.removal(self._draft, row, previous)
            previous = order
        return None
