"""From what is served to the body of an answer."""

from collections.abc import Sequence
from random import getrandbits
from time import time_ns

from app.cursor import cursor_of
from app.recommend_schemas import Answer, AnswerItem
from app.served import Served
from recsys.recommender.explain import Why


def answer(
    served: Served,
    properties: Sequence[str],
    *,
    identifier: str | None = None,
    page: int | None = None,
    whys: Sequence[Why] = (),
) -> Answer:
    """The body; with `page`, only so many items and a cursor for the rest."""
    identifier, result = identifier or recommendation_id(), served.result
    items, short, cursor = items_of(served, properties, whys), result.short, None
    if page is not None and len(items) > page:
        cursor = cursor_of(identifier, served.degraded, result.only(slice(page, None)))
        items, short = items[:page], None
    return Answer(identifier, result.version, served.degraded, result.rung.value, items, short, cursor, served.variant)


def items_of(served: Served, properties: Sequence[str], whys: Sequence[Why] = ()) -> list[AnswerItem]:
    sources = served.result.sources
    if not properties and not whys:
        return list(map(AnswerItem, served.ids, served.scores, sources))
    nothing = [None] * len(sources)
    shown = served.live.catalogue.shown(served.result.rows.tolist(), properties) if properties else nothing
    return list(map(AnswerItem, served.ids, served.scores, sources, shown, whys or nothing))


def recommendation_id() -> str:
    """Unique, sorts by time: microseconds since 1970 and 48 random bits, in hexadecimal."""
    return f"{time_ns() // 1000:014x}{getrandbits(48):012x}"
