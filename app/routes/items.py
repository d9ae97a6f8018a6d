"""GET /items and /items/{id}: what this replica knows of items."""

import numpy as np
from fastapi import APIRouter, Request, Response

from app.http.dependencies import ReadingItems, Use, json_response, query_parameters
from app.http.openapi import gives, reads
from app.http.schemas.admin import ItemAnswer, ItemsAnswer
from app.http.schemas.recommendations import ItemsParams
from app.routes.recommendations import ItemId
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import NotFound
from recsys.index.id_map import UNKNOWN

router = APIRouter(tags=["recommendations"])
PIECE = 32
"""Items of a long answer that are read in one turn."""


@router.get(
    "/items", responses=gives(ItemsAnswer, 400, 422, 503), response_class=Response, openapi_extra=reads(ItemsParams)
)
async def get_items(services: Use, _: ReadingItems, request: Request) -> Response:
    """Items with every property, in the order asked for; one that nobody knows is left out."""
    catalogue = services.answerer.live().catalogue
    rows = catalogue.rows(query_parameters(request.scope, ItemsParams).item_id).tolist()
    answers: list[ItemAnswer] = []
    for start in range(0, len(rows), PIECE):
        if start:
            await services.turns.turn(request.scope, next_piece=True)
        answers += [_answer(catalogue, row) for row in rows[start : start + PIECE] if row != UNKNOWN]
    return json_response(ItemsAnswer(answers))


@router.get("/items/{item_id}", responses=gives(ItemAnswer, 404, 422, 503), response_class=Response)
async def get_item(services: Use, _: ReadingItems, item_id: ItemId) -> Response:
    """An item with every property, as answers are made from it here and now."""
    catalogue = services.answerer.live().catalogue
    row = int(catalogue.rows([item_id])[0])
    if row == UNKNOWN:
        raise NotFound("item", item_id)
    return json_response(_answer(catalogue, row))


def _answer(catalogue: Catalogue, row: int) -> ItemAnswer:
    item, index = catalogue.item(row), catalogue.index
    return ItemAnswer(
        item_id=catalogue.ids(np.array([row]))[0],
        index_version=index.version,
        trained=row < len(index) and not index.cold[row],
        available=item is None or item.available is not False,
        properties={} if item is None else item.returned_properties(),
    )
