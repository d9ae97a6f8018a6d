"""GET /items and /items/{id}: what this replica knows of items."""

from typing import Annotated

import numpy as np
from starlette.types import Scope as Connection

from app.http.callers import ReadingItems
from app.http.schemas.admin import ItemAnswer, ItemsAnswer
from app.http.schemas.recommendations import ItemsParams
from app.http.services import Services
from app.http.typed_routes import QueryString, TypedRouter
from app.routes.recommendations import ItemId
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import NotFound
from recsys.index.id_map import UNKNOWN

router = TypedRouter(tag="recommendations")
PIECE = 32
"""Items of a long answer that are read in one turn."""


@router.answers("GET", "/items")
async def get_items(
    services: Services, _: ReadingItems, connection: Connection, params: Annotated[ItemsParams, QueryString()]
) -> ItemsAnswer:
    """Items with every property, in the order asked for; one that nobody knows is left out."""
    catalogue = services.answerer.live().catalogue
    rows = catalogue.rows(params.item_id).tolist()
    answers: list[ItemAnswer] = []
    for start in range(0, len(rows), PIECE):
        if start:
            await services.turns.turn(connection, next_piece=True)
        answers += [_answer(catalogue, row) for row in rows[start : start + PIECE] if row != UNKNOWN]
    return ItemsAnswer(answers)


@router.answers("GET", "/items/{item_id}", 404)
async def get_item(services: Services, _: ReadingItems, item_id: ItemId) -> ItemAnswer:
    """An item with every property, as answers are made from it here and now."""
    catalogue = services.answerer.live().catalogue
    row = int(catalogue.rows([item_id])[0])
    if row == UNKNOWN:
        raise NotFound("item", item_id)
    return _answer(catalogue, row)


def _answer(catalogue: Catalogue, row: int) -> ItemAnswer:
    item, index = catalogue.item(row), catalogue.index
    return ItemAnswer(
        item_id=catalogue.ids(np.array([row]))[0],
        index_version=index.version,
        trained=row < len(index) and not index.cold[row],
        available=item is None or item.available is not False,
        properties={} if item is None else item.returned_properties(),
    )
