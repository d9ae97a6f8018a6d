"""/recommend, /recommend/batch, /items/{id}/similar, /popular, /trending, /new, /explain."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import Annotated

import msgspec
from fastapi import Path
from pydantic import StringConstraints
from starlette.types import Scope as Connection

from app.http.admission import Slots
from app.http.answers import answer, items_of, recommendation_id
from app.http.callers import Recommending
from app.http.cursor import Question
from app.http.schemas.recommendations import (
    Answer,
    BatchAnswer,
    BatchBody,
    ExplainAnswer,
    ExplainBody,
    ListParams,
    RecommendBody,
    RecommendParams,
    TrendingParams,
    UserItems,
    filter_of,
    known_placement,
    query_of,
)
from app.http.services import Services
from app.http.typed_routes import Encoded, QueryString, TypedRouter
from app.serving.answerer import Reply, replies
from recsys.errors import InvalidInput, NotFound
from recsys.index.id_map import UNKNOWN
from recsys.messages.interaction import ID_PATTERN, MAX_ID_LENGTH
from recsys.recommender.explain import Explanation
from recsys.recommender.pipeline import still_allowed
from recsys.recommender.placement import MAX_K, READY_MADE, Candidates, Placement, Source
from recsys.recommender.query import Query

router = TypedRouter(tag="recommendations")

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN)]
ItemId = Annotated[Id, Path(description="the item")]
PAGE_DEPTH = 10
"""Pages that a cursor holds."""
EXAMPLE = {
    "recommendation_id": "019acb2f-8c1e-7d3a-9f0b-7a2c4d5e6f70",
    "index_version": "20111209-125000-4c1d2e",
    "degraded": False,
    "fallback_level": "embedding",
    "items": [
        {"item_id": "85123A", "score": 0.91, "source": "personal", "properties": {"title": "WHITE HANGING HEART"}}
    ],
}
BODY_EXAMPLE = {
    "user_id": "17850",
    "k": 5,
    "cart_items": ["85123A"],
    "filter": 'price < 5 and not categories = "Christmas"',
    "boosts": [{"when": "price >= 3", "factor": 1.2}],
    "properties": ["title", "price"],
}


@router.answers("GET", "/recommend", slots=Slots.SINGLES, answer_example=EXAMPLE)
async def recommend(
    services: Services,
    _: Recommending,
    connection: Connection,
    params: Annotated[RecommendBody, QueryString(RecommendParams)],
) -> Answer:
    """Personal items for a user, best first; trending or popular items for an unknown user."""
    return await _recommend(services, connection, params)


@router.answers("POST", "/recommend", slots=Slots.SINGLES, example=BODY_EXAMPLE, answer_example=EXAMPLE)
async def recommend_by_body(services: Services, _: Recommending, connection: Connection, body: RecommendBody) -> Answer:
    """Personal items for a user, asked for with a body: for long lists, context and boosts."""
    return await _recommend(services, connection, body)


@router.answers(
    "POST", "/recommend/batch", slots=Slots.BATCHES, batch=True, example={"users": ["17850", "13047"], "k": 5}
)
async def recommend_batch(services: Services, _: Recommending, params: BatchBody) -> Encoded[BatchAnswer]:
    """Many users in one call, all answered by one version: for mails, exports and pages rendered ahead."""
    placement = known_placement(services.placements(), params.placement)
    k, max_items = params.k or placement.k, services.settings.max_batch_items
    if k * len(params.users) > max_items:
        raise InvalidInput("users", f"{len(params.users)} users with k={k} each: at most {max_items} items are allowed")
    await services.expressions.ready(params)
    moment, condition, exclude = now_ms(), filter_of(params.filter), tuple(params.exclude)
    queries = [Query(k, user, (), (), exclude, condition, placement, moment) for user in params.users]
    batch = _Batch(params.users, names_of(params, placement))
    parts = await services.answerer.answer_all(queries, batch.encode)
    opening = msgspec.json.encode(BatchAnswer(recommendation_id(), batch.version, batch.degraded, []))
    return Encoded([opening[: -len(CLOSING)], *parts, CLOSING])


CLOSING = b"]}"
"""The end of the encoded `BatchAnswer`, whose last field is the list."""


class _Batch:
    """Encodes the answers of a batch part by part: JSON takes a fraction of the memory of the objects."""

    def __init__(self, users: Sequence[str], names: tuple[str, ...]) -> None:
        self._users = users
        self._names = names
        self._encoded = 0
        self.version = ""
        self.degraded = False

    def encode(self, part: Sequence[Reply]) -> bytes:
        """The entries of the list for the next users."""
        begun, self._encoded = self._encoded, self._encoded + len(part)
        self.version = part[0].result.version
        self.degraded |= any(reply.degraded for reply in part)
        answers = [
            UserItems(user, reply.result.fallback_level, items_of(reply, self._names), reply.result.short)
            for user, reply in zip(self._users[begun : self._encoded], part, strict=True)
        ]
        return (b"," if begun else b"") + msgspec.json.encode(answers)[1:-1]


POPULAR = Placement(sources=(Candidates(Source.POPULAR),))
SIMILAR = Placement(sources=(Candidates(Source.SIMILAR),), fallback=())


@router.answers("GET", "/popular", slots=Slots.SINGLES)
async def list_popular(services: Services, _: Recommending, params: Annotated[ListParams, QueryString()]) -> Answer:
    """The items most in demand now, the same for every user."""
    return await _list(services, params, POPULAR)


@router.answers("GET", "/trending", slots=Slots.SINGLES)
async def list_trending(
    services: Services, _: Recommending, params: Annotated[TrendingParams, QueryString()]
) -> Answer:
    """Items more in demand than usual within a window of time; of one category with `filter`."""
    return await _list(services, params, msgspec.structs.replace(READY_MADE["trending"], trending_hours=params.hours))


@router.answers("GET", "/new", slots=Slots.SINGLES)
async def list_new(services: Services, _: Recommending, params: Annotated[ListParams, QueryString()]) -> Answer:
    """Items without interactions, the latest first; `placement=new` ranks them for a user."""
    return await _list(services, params, READY_MADE["new"])


@router.answers("POST", "/explain", 404, slots=Slots.SINGLES, example={"user_id": "17850", "item_id": "85123A", "k": 5})
async def explain_item(services: Services, _: Recommending, connection: Connection, body: ExplainBody) -> ExplainAnswer:
    """Why an item is in the answer to a question, or which stage removed it."""
    await services.expressions.ready(body)
    await services.turns.turn(connection)
    reply, trace = await services.answerer.trace(
        query_of(body, known_placement(services.placements(), body.placement), now_ms()), body.placement
    )
    catalogue, result = reply.live.catalogue, reply.result
    row = int(catalogue.rows([body.item_id])[0])
    if row == UNKNOWN:
        raise NotFound("item", body.item_id)
    explanation = Explanation(trace, result, catalogue)
    removed = explanation.why_not(row)
    rank = None if removed else result.rows.tolist().index(row) + 1
    reason = None if rank is None else explanation.why()[rank - 1]
    return ExplainAnswer(body.item_id, result.version, result.fallback_level, rank, reason, removed)


@router.answers("GET", "/items/{item_id}/similar", 404, slots=Slots.SINGLES)
async def list_similar(
    services: Services, _: Recommending, item_id: ItemId, params: Annotated[ListParams, QueryString()]
) -> Answer:
    """Items that go to the same people as this one."""
    if services.answerer.live().catalogue.rows([item_id])[0] == UNKNOWN:
        raise NotFound("item", item_id)
    return await _list(services, params, SIMILAR, (item_id,))


async def _list(services: Services, params: ListParams, placement: Placement, items: tuple[str, ...] = ()) -> Answer:
    await services.expressions.ready(params)
    default = known_placement(services.placements(), "default")
    query = Query(
        k=params.k or default.k,
        session_items=items,
        filter=filter_of(params.filter),
        placement=placement,
        now_ms=now_ms(),
    )
    return answer(await services.batcher.recommend(query), names_of(params, default))


async def _recommend(services: Services, connection: Connection, body: RecommendBody) -> Answer:
    await services.expressions.ready(body)
    placement = known_placement(services.placements(), body.placement)
    query, names = query_of(body, placement, now_ms()), names_of(body, placement)
    if body.explain:
        await services.turns.turn(connection)
        reply, trace = await services.answerer.trace(query, body.placement)
        whys = Explanation(trace, reply.result, reply.live.catalogue).why()
        return answer(reply, names, whys=whys)
    question = Question(body.user_id, body.placement, body.filter)
    cursor_of = partial(services.cursors.cursor, question)
    if body.cursor is not None:
        ranking, rest = services.cursors.ranking(question, body.cursor)
        live = services.answerer.loaded(ranking.version)
        # Its version may have left memory: then a new answer begins.
        if live is not None:
            # What follows in the ranking, less what may not be shown any more.
            following = replies([still_allowed(rest, query, live.catalogue)], live, [ranking.degraded])[0]
            identifier = ranking.recommendation_id
            return answer(following, names, identifier=identifier, page=query.k, cursor_of=cursor_of)
    page = query.k if body.pages or body.cursor is not None else None
    whole = query if page is None else replace(query, k=min(PAGE_DEPTH * page, MAX_K))
    return answer(await services.batcher.recommend(whole, body.placement), names, page=page, cursor_of=cursor_of)


def names_of(params: ListParams, placement: Placement) -> tuple[str, ...]:
    """The names of the properties to answer with: those of the request, else those of the placement."""
    return placement.properties if params.properties is None else tuple(params.properties)


def now_ms() -> int:
    """The current time in milliseconds since 1970."""
    return int(time() * 1000)
