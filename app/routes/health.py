"""GET /health/live, /health/ready: for machines, without a key."""

from fastapi import APIRouter, Response

from app.http.dependencies import Services, Use, json_response
from app.http.openapi import gives
from app.http.schemas.events import Health, SpoolHealth

router = APIRouter(tags=["health"])


@router.get("/health/live", responses=gives(Health), response_class=Response)
async def live() -> Response:
    """200 while the process answers at all."""
    return json_response(Health("alive"))


@router.get("/health/ready", responses=gives(Health, 503), response_class=Response)
async def ready(services: Use) -> Response:
    """200 once a version is loaded: a store or topic that is down does not make a replica useless."""
    version, fallback = services.answerer.live().index.version, services.live_index.fallback
    return json_response(Health("ready", version, None if fallback is None else str(fallback), _spool(services)))


def _spool(services: Services) -> SpoolHealth | None:
    spool = services.producer.spool
    return None if spool is None else SpoolHealth(spool.depth, spool.holding.bytes, round(spool.holding.age(), 3))
