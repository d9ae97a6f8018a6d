"""Placements: GET, PUT and DELETE /placements/{name}, and who changed them when."""

from functools import partial
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request, Response

from app.http.dependencies import Administering, Services, Use, decode_beside, json_response
from app.http.openapi import gives, takes
from app.http.schemas.admin import PlacementAnswer, PlacementHistory, PlacementsAnswer
from recsys.errors import NotFound, StoreUnavailable
from recsys.recommender.placement import NAME_PATTERN, Placement, PlacementChange
from recsys.stores.notifications import PLACEMENTS_CHANNEL

router = APIRouter(prefix="/placements", tags=["placements"])
log = structlog.get_logger()
Name = Annotated[str, Path(pattern=NAME_PATTERN, description="a placement")]


@router.get("", responses=gives(PlacementsAnswer), response_class=Response)
async def list_placements(services: Use, _: Administering) -> Response:
    """Every placement that answers on this replica, and whose word it is."""
    placements = services.placement_watcher.current
    return json_response(PlacementsAnswer([_answer(services, name) for name in sorted(placements)]))


@router.get("/{name}", responses=gives(PlacementAnswer, 404, 422), response_class=Response)
async def get_placement(services: Use, _: Administering, name: Name) -> Response:
    """One placement as it answers on this replica."""
    return json_response(_answer(services, name))


@router.get("/{name}/history", responses=gives(PlacementHistory, 404, 422, 503), response_class=Response)
async def placement_history(services: Use, _: Administering, name: Name) -> Response:
    """List the changes of this placement, oldest first, with their authors."""
    changes = await services.watcher.ask(services.settings_log.history, name)
    if not changes and name not in services.placement_watcher.current:
        raise NotFound("placement", name)
    return json_response(PlacementHistory(name, changes))


@router.put(
    "/{name}",
    responses=gives(PlacementChange, 409, 413, 422, 503),
    response_class=Response,
    openapi_extra=takes(
        Placement, example={"sources": [{"source": "personal"}, {"source": "trending"}], "max_per_category": 3}
    ),
)
async def put_placement(services: Use, actor: Administering, name: Name, request: Request) -> Response:
    """Set a placement on every replica, over a configured or ready-made one of this name.

    Effective on this replica before the answer, on the others within a second. The body is the whole placement:
    what is left out takes its default.
    """
    # The body arrives before a slot is taken; its expressions are compiled in it.
    await request.body()
    with services.singles.slot(actor):
        placement = await decode_beside(request, Placement)
    return await _change(services, name, placement, actor)


@router.delete("/{name}", responses=gives(PlacementChange, 404, 409, 422, 503), response_class=Response)
async def delete_placement(services: Use, actor: Administering, name: Name) -> Response:
    """Remove the operator's setting: the configured or ready-made placement of this name is in force again, if any."""
    last = (await services.watcher.ask(services.settings_log.newest)).get(name)
    if last is None or last.placement is None:
        raise NotFound("placement set at run time", name)
    return await _change(services, name, None, actor)


async def _change(services: Services, name: str, placement: Placement | None, actor: str) -> Response:
    change = await services.watcher.ask(partial(services.settings_log.change, name, placement, actor=actor))
    try:
        await services.stores.notifications.send(PLACEMENTS_CHANNEL, name)
    except StoreUnavailable as error:
        log.warning("other replicas will notice by polling", error=str(error))
    await services.placement_watcher.check()
    return json_response(change)


def _answer(services: Services, name: str) -> PlacementAnswer:
    watcher = services.placement_watcher
    if name not in watcher.current:
        raise NotFound("placement", name)
    placement = watcher.current[name]
    change = (watcher.changes or {}).get(name)
    if change is not None and change.placement is not None:
        return PlacementAnswer(name, "operator", placement, change.changed_at, change.actor)
    configured = name in services.settings.placements
    return PlacementAnswer(name, "settings" if configured else "ready-made", placement)
