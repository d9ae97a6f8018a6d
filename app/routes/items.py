"""GET /items/{id}: what this replica knows of an item."""

from fastapi import APIRouter, Response

from app.admin_schemas import ItemAnswer
from app.dependencies import Administering, Use, json_response
from app.openapi import gives
from app.routes.recommendations import ItemId
from recsys.errors import NotFound
from recsys.recommender.id_map import UNKNOWN

router = APIRouter(tags=["recommendations"])


@router.get("/items/{item_id}", responses=gives(ItemAnswer, 404, 422, 503), response_class=Response)
async def get_item(use: Use, _: Administering, item_id: ItemId) -> Response:
    """An item with every property, as answers are made from it here and now."""
    catalogue = use.serving.live().catalogue
    row = int(catalogue.rows([item_id])[0])
    if row == UNKNOWN:
        raise NotFound("item", item_id)
    item = catalogue.item(row)
    return json_response(
        ItemAnswer(
            item_id=item_id,
            index_version=catalogue.index.version,
            trained=row < len(catalogue.index) and not catalogue.index.cold[row],
            available=item is None or item.available is not False,
            properties={} if item is None else item.shown(),
        )
    )
