"""From a recommendation to the body of an answer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from random import getrandbits
from time import time_ns

import numpy as np

from app.cursor import cursor_of
from app.recommend_schemas import Answer, AnswerItem
from recsys.placement import Source
from recsys.recommendation import Recommendation
from recsys.recommender import Catalogue
from recsys.recommender.explain import Why
from recsys.rollout import Variant

NUMERALS = 6
"""Decimals of a score."""


def answer(
    result: Recommendation,
    catalogue: Catalogue,
    properties: Sequence[str],
    *,
    degraded: bool,
    identifier: str | None = None,
    page: int | None = None,
    whys: Sequence[Why] = (),
    variant: Variant | None = None,
) -> Answer:
    """The body; with `page`, only so many items of `result` and a cursor for the rest."""
    identifier = identifier or recommendation_id()
    cursor = None
    if page is not None and len(result.rows) > page:
        cursor = cursor_of(identifier, degraded, result.only(slice(page, None)))
        result = replace(result.only(slice(page)), short=None)
    return Answer(
        identifier,
        result.version,
        degraded,
        result.rung.value,
        items_of(result, catalogue, properties, whys),
        result.short,
        cursor,
        variant,
    )


def items_of(
    result: Recommendation, catalogue: Catalogue, properties: Sequence[str], whys: Sequence[Why] = ()
) -> list[AnswerItem]:
    ids = catalogue.ids(result.rows)
    scores = [round(score, NUMERALS) for score in result.scores.tolist()]
    return _items(ids, scores, result.sources, result.rows.tolist(), catalogue, properties, whys)


def items_of_each(
    results: Sequence[Recommendation], catalogue: Catalogue, properties: Sequence[str]
) -> list[list[AnswerItem]]:
    """The same for many at once."""
    rows = np.concatenate([result.rows for result in results])
    scores = np.concatenate([result.scores for result in results]).astype(np.float64).round(NUMERALS).tolist()
    sources = [source for result in results for source in result.sources]
    items = _items(catalogue.ids(rows), scores, sources, rows.tolist(), catalogue, properties)
    ends = accumulate(len(result.rows) for result in results)
    return [items[end - len(result.rows) : end] for end, result in zip(ends, results, strict=True)]


def _items(
    ids: Sequence[str],
    scores: Sequence[float],
    sources: Sequence[Source],
    rows: Sequence[int],
    catalogue: Catalogue,
    properties: Sequence[str],
    whys: Sequence[Why] = (),
) -> list[AnswerItem]:
    if not properties and not whys:
        return list(map(AnswerItem, ids, scores, sources))
    nothing = [None] * len(ids)
    shown = catalogue.shown(rows, properties) if properties else nothing
    return list(map(AnswerItem, ids, scores, sources, shown, whys or nothing))


def recommendation_id() -> str:
    """Unique, sorts by time: microseconds since 1970 and 48 random bits, in hexadecimal."""
    return f"{time_ns() // 1000:014x}{getrandbits(48):012x}"
