"""Placements: GET, PUT and DELETE /placements/{name}, and who changed them when."""

from functools import partial
from typing import Annotated

import structlog
from fastapi import Path

from app.http.admission import Slots
from app.http.callers import Administering
from app.http.schemas.admin import PlacementAnswer, PlacementHistory, PlacementsAnswer
from app.http.services import Services
from app.http.typed_routes import InThread, TypedRouter
from recsys.errors import NotFound, StoreUnavailable
from recsys.recommender.placement import NAME_PATTERN, Placement, PlacementChange
from recsys.stores.notifications import PLACEMENTS_CHANNEL

router = TypedRouter("/placements", tag="placements")
log = structlog.get_logger()
Name = Annotated[str, Path(pattern=NAME_PATTERN, description="a placement")]


@router.answers("GET", "")
async def list_placements(services: Services, _: Administering) -> PlacementsAnswer:
    """Every placement that answers on this replica, and whose word it is."""
    placements = services.placement_watcher.current
    return PlacementsAnswer([_answer(services, name) for name in sorted(placements)])


@router.answers("GET", "/{name}", 404)
async def get_placement(services: Services, _: Administering, name: Name) -> PlacementAnswer:
    """One placement as it answers on this replica."""
    return _answer(services, name)


@router.answers("GET", "/{name}/history", 404)
async def get_placement_history(services: Services, _: Administering, name: Name) -> PlacementHistory:
    """List the changes of this placement, oldest first, with their authors."""
    changes = await services.watcher.ask(services.settings_log.history, name)
    if not changes and name not in services.placement_watcher.current:
        raise NotFound("placement", name)
    return PlacementHistory(name, changes)


@router.answers(
    "PUT",
    "/{name}",
    409,
    # Its expressions are compiled, like those of a question.
    slots=Slots.SINGLES,
    example={"sources": [{"source": "personal"}, {"source": "trending"}], "max_per_category": 3},
)
async def put_placement(
    services: Services, actor: Administering, name: Name, placement: Annotated[Placement, InThread()]
) -> PlacementChange:
    """Set a placement on every replica, over a configured or ready-made one of this name.

    Effective on this replica before the answer, on the others within a second. The body is the whole placement:
    what is left out takes its default.
    """
    return await _change(services, name, placement, actor)


@router.answers("DELETE", "/{name}", 404, 409)
async def delete_placement(services: Services, actor: Administering, name: Name) -> PlacementChange:
    """Remove the operator's setting: the configured or ready-made placement of this name is in force again, if any."""
    last = (await services.watcher.ask(services.settings_log.newest)).get(name)
    if last is None or last.placement is None:
        raise NotFound("placement set at run time", name)
    return await _change(services, name, None, actor)


async def _change(services: Services, name: str, placement: Placement | None, actor: str) -> PlacementChange:
    change = await services.watcher.ask(partial(services.settings_log.change, name, placement, actor=actor))
    try:
        await services.stores.notifications.send(PLACEMENTS_CHANNEL, name)
    except StoreUnavailable as error:
        log.warning("other replicas will notice by polling", error=str(error))
    await services.placement_watcher.check()
    return change


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
