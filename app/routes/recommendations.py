"""GET and POST /recommend, /items/{id}/similar, /popular."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.dependencies import Recommending, Services, Use, decode_body, json_response
from app.openapi import gives, takes
from app.schemas import MAX_IDS, Answer, FilterBody, RecommendBody, query_of
from app.settings import Placement
from recsys.errors import InvalidInput
from recsys.interaction import ID_PATTERN, MAX_ID_LENGTH
from recsys.recommendation import MAX_K, Filter

router = APIRouter(tags=["recommendations"])

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=ID_PATTERN)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Category = Annotated[str, StringConstraints(max_length=256)]
ItemId = Annotated[Id, Path(description="the item")]


class Shown(BaseModel):
    """What every list of items can be asked for."""

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(None, ge=1, le=MAX_K, description="how many items; the placement's number when unset")
    categories: list[Category] = Field([], max_length=64, description="only items of any of these; repeat the name")
    properties: list[Name] | None = Field(
        None, max_length=64, description="item properties to return, repeated or joined by commas", examples=[["title"]]
    )

    def condition(self) -> Filter | None:
        return Filter(frozenset(self.categories)) if self.categories else None

    def property_names(self) -> list[str] | None:
        """`properties=title,price` and `properties=title&properties=price` are the same."""
        if self.properties is None:
            return None
        return [name for joined in self.properties for name in joined.split(",") if name]


class RecommendParams(Shown):
    user_id: Id | None = Field(None, description="whom to recommend to; popular items when unset")
    placement: str = Field("default", max_length=64, description="a configured place in the frontend")
    session_items: list[Id] = Field([], max_length=MAX_IDS, description="items of this visit; repeat the name")
    exclude: list[Id] = Field([], max_length=MAX_IDS, description="items to leave out; repeat the name")

    def to_body(self) -> RecommendBody:
        return RecommendBody(
            user_id=self.user_id,
            k=self.k,
            placement=self.placement,
            session_items=self.session_items,
            exclude=self.exclude,
            filter=FilterBody(categories=self.categories) if self.categories else None,
            properties=self.property_names(),
        )


EXAMPLE = {
    "recommendation_id": "0643f2b81a5c3e9d1f0b7a2c4d5e",
    "index_version": "20111209-125000-4c1d2e",
    "degraded": False,
    "rung": "embedding",
    "items": [
        {"item_id": "85123A", "score": 0.91, "source": "personal", "properties": {"title": "WHITE HANGING HEART"}}
    ],
}


@router.get("/recommend", responses=gives(Answer, 400, 422, 503, example=EXAMPLE), response_class=Response)
async def recommend(use: Use, _: Recommending, params: Annotated[RecommendParams, Query()]) -> Response:
    """Personal items for a user, best first; session or popular items where nothing is known of them."""
    return await _recommend(use, params.to_body())


@router.post(
    "/recommend",
    responses=gives(Answer, 413, 422, 503, example=EXAMPLE),
    response_class=Response,
    openapi_extra=takes(
        RecommendBody,
        example={"user_id": "17850", "k": 5, "properties": ["title", "price"], "filter": {"categories": []}},
    ),
)
async def recommend_by_body(use: Use, _: Recommending, request: Request) -> Response:
    """The same with a body, for long lists and property filters."""
    return await _recommend(use, await decode_body(request, RecommendBody))


@router.get("/items/{item_id}/similar", responses=gives(Answer, 400, 404, 422, 503), response_class=Response)
async def similar(use: Use, _: Recommending, item_id: ItemId, params: Annotated[Shown, Query()]) -> Response:
    """Items that go to the same people as this one."""
    placement = placement_of(use, "default")
    names = tuple(params.property_names() or placement.properties)
    return json_response(use.serving.similar(item_id, params.k or placement.k, params.condition(), names))


@router.get("/popular", responses=gives(Answer, 400, 422, 503), response_class=Response)
async def popular(use: Use, _: Recommending, params: Annotated[Shown, Query()]) -> Response:
    """What most people want now, the same for everybody."""
    placement = placement_of(use, "default")
    names = tuple(params.property_names() or placement.properties)
    return json_response(use.serving.popular(params.k or placement.k, params.condition(), names))


async def _recommend(use: Services, body: RecommendBody) -> Response:
    placement = placement_of(use, body.placement)
    query = query_of(body, body.k or placement.k, exclude_seen=placement.exclude_seen, categories=placement.categories)
    names = tuple(body.properties) if body.properties is not None else placement.properties
    return json_response(await use.serving.recommend(query, names))


def placement_of(use: Services, name: str) -> Placement:
    placement = use.settings.placements.get(name)
    if placement is None:
        raise InvalidInput("placement", f"{name!r} is not one of {', '.join(sorted(use.settings.placements))}")
    return placement
