"""/recommend, /recommend/batch, /items/{id}/similar, /popular, /trending, /new, /explain."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import time
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Request, Response
from pydantic import StringConstraints
from starlette.types import Scope as Connection

from app.http.answers import answer, items_of, recommendation_id
from app.http.cursor import Question
from app.http.dependencies import Recommending, Services, Use, decode, query_parameters
from app.http.hot_routes import HotRoute, document
from app.http.openapi import gives, reads, takes
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
from app.serving.answerer import Reply, replies
from app.settings import Scope
from recsys.errors import InvalidInput, NotFound
from recsys.index.id_map import UNKNOWN
from recsys.messages.interaction import ID_PATTERN, MAX_ID_LENGTH
from recsys.recommender.explain import Explanation
from recsys.recommender.pipeline import still_allowed
from recsys.recommender.placement import MAX_K, READY_MADE, Candidates, Placement, Source
from recsys.recommender.query import Query

router = APIRouter(tags=["recommendations"])

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN)]
ItemId = Annotated[Id, Path(description="the item")]
PAGE_DEPTH = 10
"""Pages that a cursor holds."""


async def recommend(services: Services, scope: Connection, _: bytes) -> bytes:
    """Personal items for a user, best first; trending or popular items for an unknown user."""
    return msgspec.json.encode(
        await _recommend(services, scope, query_parameters(scope, RecommendBody, RecommendParams))
    )


async def recommend_by_body(services: Services, scope: Connection, body: bytes) -> bytes:
    """Personal items for a user, asked for with a body: for long lists, context and boosts."""
    return msgspec.json.encode(await _recommend(services, scope, decode(body, RecommendBody)))


async def recommend_batch(services: Services, _: Connection, body: bytes) -> list[bytes]:
    """Many users in one call, all answered by one version: for mails, exports and pages rendered ahead."""
    params = decode(body, BatchBody)
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
    return [opening[: -len(CLOSING)], *parts, CLOSING]


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


async def popular(services: Services, scope: Connection, _: bytes) -> bytes:
    """The items most in demand now, the same for every user."""
    return await _list(services, query_parameters(scope, ListParams), POPULAR)


async def trending(services: Services, scope: Connection, _: bytes) -> bytes:
    """Items more in demand than usual within a window of time; of one category with `filter`."""
    params = query_parameters(scope, TrendingParams)
    return await _list(services, params, msgspec.structs.replace(READY_MADE["trending"], trending_hours=params.hours))


async def new(services: Services, scope: Connection, _: bytes) -> bytes:
    """Items without interactions, the latest first; `placement=new` ranks them for a user."""
    return await _list(services, query_parameters(scope, ListParams), READY_MADE["new"])


async def explain(services: Services, scope: Connection, raw: bytes) -> bytes:
    """Why an item is in the answer to a question, or which stage removed it."""
    body = decode(raw, ExplainBody)
    await services.expressions.ready(body)
    await services.turns.turn(scope)
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
    return msgspec.json.encode(
        ExplainAnswer(body.item_id, result.version, result.fallback_level, rank, reason, removed)
    )


HOT: Mapping[tuple[str, str], HotRoute] = {
    ("GET", "/recommend"): HotRoute(recommend, Scope.RECOMMEND),
    ("POST", "/recommend"): HotRoute(recommend_by_body, Scope.RECOMMEND),
    ("POST", "/recommend/batch"): HotRoute(recommend_batch, Scope.RECOMMEND, batch=True),
    ("GET", "/popular"): HotRoute(popular, Scope.RECOMMEND),
    ("GET", "/trending"): HotRoute(trending, Scope.RECOMMEND),
    ("GET", "/new"): HotRoute(new, Scope.RECOMMEND),
    ("POST", "/explain"): HotRoute(explain, Scope.RECOMMEND),
}
"""Answered by `HotRoutes`."""


@router.get(
    "/items/{item_id}/similar",
    responses=gives(Answer, 400, 404, 422, 503),
    response_class=Response,
    openapi_extra=reads(ListParams),
)
async def similar(request: Request, services: Use, caller: Recommending, item_id: ItemId) -> Response:
    """Items that go to the same people as this one."""
    with services.singles.slot(caller):
        if services.answerer.live().catalogue.rows([item_id])[0] == UNKNOWN:
            raise NotFound("item", item_id)
        content = await _list(services, query_parameters(request.scope, ListParams), SIMILAR, (item_id,))
    return Response(content, media_type="application/json")


async def _list(services: Services, params: ListParams, placement: Placement, items: tuple[str, ...] = ()) -> bytes:
    await services.expressions.ready(params)
    default = known_placement(services.placements(), "default")
    query = Query(
        k=params.k or default.k,
        session_items=items,
        filter=filter_of(params.filter),
        placement=placement,
        now_ms=now_ms(),
    )
    return msgspec.json.encode(answer(await services.batcher.recommend(query), names_of(params, default)))


async def _recommend(services: Services, scope: Connection, body: RecommendBody) -> Answer:
    await services.expressions.ready(body)
    placement = known_placement(services.placements(), body.placement)
    query, names = query_of(body, placement, now_ms()), names_of(body, placement)
    if body.explain:
        await services.turns.turn(scope)
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


EXAMPLE = {
    "recommendation_id": "0643f2b81a5c3e9d1f0b7a2c4d5e",
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
document(router, HOT, ("GET", "/recommend"), gives(Answer, 400, 422, 503, example=EXAMPLE), reads(RecommendParams))
document(
    router,
    HOT,
    ("POST", "/recommend"),
    gives(Answer, 413, 422, 503, example=EXAMPLE),
    takes(RecommendBody, example=BODY_EXAMPLE),
)
document(
    router,
    HOT,
    ("POST", "/recommend/batch"),
    gives(BatchAnswer, 413, 422, 503),
    takes(BatchBody, example={"users": ["17850", "13047"], "k": 5}),
)
document(router, HOT, ("GET", "/popular"), gives(Answer, 400, 422, 503), reads(ListParams))
document(router, HOT, ("GET", "/trending"), gives(Answer, 400, 422, 503), reads(TrendingParams))
document(router, HOT, ("GET", "/new"), gives(Answer, 400, 422, 503), reads(ListParams))
document(
    router,
    HOT,
    ("POST", "/explain"),
    gives(ExplainAnswer, 404, 413, 422, 503),
    takes(ExplainBody, example={"user_id": "17850", "item_id": "85123A", "k": 5}),
)
