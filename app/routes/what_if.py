"""Answers of another version or another placement, for operators: nothing is saved or counted."""

from typing import Annotated

from starlette.types import Scope as Connection

from app.http.admission import Slots
from app.http.answers import answer
from app.http.callers import Administering
from app.http.schemas.recommendations import Answer, PreviewBody, RecommendBody, known_placement, query_of
from app.http.services import Services
from app.http.typed_routes import InThread, TypedRouter
from app.routes.index_versions import VersionId
from app.routes.recommendations import names_of, now_ms
from app.versions.live_index import LoadedVersion
from recsys.errors import InvalidInput, NotFound
from recsys.recommender.explain import Explanation
from recsys.recommender.placement import Placement

router = TypedRouter(tag="placements")


@router.answers(
    "POST",
    "/versions/{version}/recommend",
    404,
    tag="versions of models",
    slots=Slots.SINGLES,
    example={"user_id": "17850", "k": 5, "explain": True},
)
async def recommend_by_version(
    services: Services, _: Administering, connection: Connection, version: VersionId, body: RecommendBody
) -> Answer:
    """Answer as `POST /recommend` would if this version were live; for those in this replica's memory.

    They are the `loaded` ones of `GET /versions`. There are no pages.
    """
    if body.pages or body.cursor is not None:
        raise InvalidInput("cursor" if body.cursor is not None else "pages", "is only for POST /recommend")
    placement = known_placement(services.placements(), body.placement)
    await services.expressions.ready(body)
    return await _answer(services, connection, body, placement, _in_memory(services, version))


@router.answers(
    "POST",
    "/recommend/preview",
    404,
    slots=Slots.SINGLES,
    example={"placement": {"diversity": 0.5}, "user_id": "17850", "k": 5},
)
async def preview_placement(
    services: Services, _: Administering, connection: Connection, body: Annotated[PreviewBody, InThread()]
) -> Answer:
    """Answer by a placement without saving it; by the live version or another one in memory."""
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
    return await _answer(services, connection, question, body.placement, version)


async def _answer(
    services: Services, connection: Connection, body: RecommendBody, placement: Placement, version: LoadedVersion
) -> Answer:
    """The answer, whose search and whose reasons are a turn each."""
    await services.turns.turn(connection)
    reply, trace = await services.answerer.trace(query_of(body, placement, now_ms()), version=version)
    await services.turns.turn(connection, next_piece=True)
    whys = Explanation(trace, reply.result, reply.live.catalogue).why() if body.explain else ()
    return answer(reply, names_of(body, placement), whys=whys)


def _in_memory(services: Services, version: str) -> LoadedVersion:
    """The version in memory. Raises `NotFound` naming those that are."""
    loaded = services.live_index.loaded(version)
    if loaded is None:
        names = ", ".join(candidate.index.version for candidate in services.live_index.in_memory())
        raise NotFound("version in memory", version, f"those of this replica are {names}")
    return loaded
