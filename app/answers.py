"""From a recommendation to the body of an answer."""

from collections.abc import Sequence
from dataclasses import replace
from random import getrandbits
from time import time_ns

from app.cursor import cursor_of
from app.recommend_schemas import Answer, AnswerItem
from recsys.recommendation import Recommendation
from recsys.recommender import Catalogue
from recsys.recommender.explain import Why

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
    )


def items_of(
    result: Recommendation, catalogue: Catalogue, properties: Sequence[str], whys: Sequence[Why] = ()
) -> list[AnswerItem]:
    ids = catalogue.ids(result.rows)
    scores = [round(score, NUMERALS) for score in result.scores.tolist()]
    sources = result.sources
    if not properties and not whys:
        return [AnswerItem(*one) for one in zip(ids, scores, sources, strict=True)]
    nothing = [None] * len(ids)
    shown = catalogue.shown(result.rows.tolist(), properties) if properties else nothing
    reasons: Sequence[Why | None] = whys or nothing
    return [AnswerItem(*one) for one in zip(ids, scores, sources, shown, reasons, strict=True)]


def recommendation_id() -> str:
    """Unique, sorts by time: microseconds since 1970 and 48 random bits, in hexadecimal."""
    return f"{time_ns() // 1000:014x}{getrandbits(48):012x}"
