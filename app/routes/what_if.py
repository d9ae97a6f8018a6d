"""Answers of another version or another placement, for operators: nothing is saved or counted."""

from fastapi import APIRouter, Request, Response

from app.http.answers import answer
from app.http.dependencies import Administering, Services, Use, decode_beside, decode_body, json_response
from app.http.openapi import gives, takes
from app.http.schemas.recommendations import Answer, PreviewBody, RecommendBody, known_placement, query_of
from app.routes.index_versions import VersionId
from app.routes.recommendations import names_of, now_ms
from app.versions.live_index import LoadedVersion
from recsys.errors import InvalidInput, NotFound
from recsys.recommender.explain import Explanation
from recsys.recommender.placement import Placement

router = APIRouter()


@router.post(
    "/versions/{version}/recommend",
    tags=["index versions"],
    responses=gives(Answer, 404, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(RecommendBody, example={"user_id": "17850", "k": 5, "explain": True}),
)
async def recommend_by_version(services: Use, caller: Administering, version: VersionId, request: Request) -> Response:
    """Answer as `POST /recommend` would if this version were live; for those in this replica's memory.

    They are the `loaded` ones of `GET /versions`. There are no pages.
    """
    body = await decode_body(request, RecommendBody)
    if body.pages or body.cursor is not None:
        raise InvalidInput("cursor" if body.cursor is not None else "pages", "is only for POST /recommend")
    placement = known_placement(services.placements(), body.placement)
    with services.singles.slot(caller):
        await services.expressions.ready(body)
        return json_response(await _answer(services, request, body, placement, _in_memory(services, version)))


@router.post(
    "/recommend/preview",
    tags=["placements"],
    responses=gives(Answer, 404, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(PreviewBody, example={"placement": {"diversity": 0.5}, "user_id": "17850", "k": 5}),
)
async def preview_placement(services: Use, caller: Administering, request: Request) -> Response:
    """Answer by a placement without saving it; by the live version or another one in memory."""
    # The body arrives before a slot is taken; its expressions are compiled in it.
    await request.body()
    with services.singles.slot(caller):
        body = await decode_beside(request, PreviewBody)
        return json_response(await _preview(services, request, body))


async def _preview(services: Services, request: Request, body: PreviewBody) -> Answer:
    version = services.answerer.live() if body.version is None else _in_memory(services, body.version)
    question = RecommendBody(
        user_id=body.user_id,
        k=body.k,
        session_items=body.session_items,
        cart_items=body.cart_items,
        context=body.context,
        properties=body.properties,
        explain=body.explain,
    )
    return await _answer(services, request, question, body.placement, version)


async def _answer(
    services: Services, request: Request, body: RecommendBody, placement: Placement, version: LoadedVersion
) -> Answer:
    """The answer, whose search and whose reasons are a turn each."""
    await services.turns.turn(request.scope)
    reply, trace = await services.answerer.trace(query_of(body, placement, now_ms()), version=version)
    await services.turns.turn(request.scope, next_piece=True)
    whys = Explanation(trace, reply.result, reply.live.catalogue).why() if body.explain else ()
    return answer(reply, names_of(body, placement), whys=whys)


def _in_memory(services: Services, version: str) -> LoadedVersion:
    """The version in memory. Raises `NotFound` naming those that are."""
    loaded = services.live_index.loaded(version)
    if loaded is None:
        names = ", ".join(candidate.index.version for candidate in services.live_index.in_memory())
        raise NotFound("version in memory", version, f"those of this replica are {names}")
    return loaded
