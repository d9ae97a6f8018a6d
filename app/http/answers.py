"""Bodies of answers, made from recommendations."""

from collections.abc import Callable, Sequence
from random import getrandbits
from time import time_ns

from app.http.schemas.recommendations import Answer, AnswerItem
from app.serving.answerer import Reply
from recsys.recommender.explain import Why
from recsys.recommender.query import Recommendation

CursorOf = Callable[[str, bool, Recommendation], str]
"""The cursor of an answer: its id, whether it is degraded, and the rest of its ranking."""


def answer(
    reply: Reply,
    properties: Sequence[str],
    *,
    identifier: str | None = None,
    page: int | None = None,
    cursor_of: CursorOf | None = None,
    whys: Sequence[Why] = (),
) -> Answer:
    """The body of an answer; with `page`, only so many items, and a cursor for the rest made by `cursor_of`."""
    identifier, result = identifier or recommendation_id(), reply.result
    items, short, cursor = items_of(reply, properties, whys), result.short, None
    if page is not None and cursor_of is not None and len(items) > page:
        cursor = cursor_of(identifier, reply.degraded, result.only(slice(page, None)))
        items, short = items[:page], None
    return Answer(
        identifier, result.version, reply.degraded, result.fallback_level.value, items, short, cursor, reply.variant
    )


def items_of(reply: Reply, properties: Sequence[str], whys: Sequence[Why] = ()) -> list[AnswerItem]:
    """The items of a recommendation, best first, with the named `properties` and the reasons `whys`, if any."""
    sources = reply.result.sources
    if not properties and not whys:
        return list(map(AnswerItem, reply.ids, reply.scores, sources))
    nothing = [None] * len(sources)
    shown = reply.live.catalogue.returned_properties(reply.result.rows.tolist(), properties) if properties else nothing
    return list(map(AnswerItem, reply.ids, reply.scores, sources, shown, whys or nothing))


def recommendation_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7), which sorts by time.

    48 bits of milliseconds since 1970, 12 bits of the fraction (section 6.2, method 3), 62 random bits.
    """
    milliseconds, rest = divmod(time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    text = f"{milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | getrandbits(62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
