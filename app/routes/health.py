"""GET /health/live, /health/ready: for machines, without a key."""

from app.http.schemas.events import Health, SpoolHealth
from app.http.services import Services
from app.http.typed_routes import TypedRouter

router = TypedRouter(tag="health")


@router.answers("GET", "/health/live")
async def get_liveness() -> Health:
    """200 while the process answers at all."""
    return Health("alive")


@router.answers("GET", "/health/ready", 503)
async def get_readiness(services: Services) -> Health:
    """200 once a version is loaded: a store or topic that is down does not make a replica useless."""
    version, fallback = services.answerer.live().index.version, services.live_index.fallback
    return Health("ready", version, None if fallback is None else str(fallback), _spool(services))


def _spool(services: Services) -> SpoolHealth | None:
    spool = services.producer.spool
    return None if spool is None else SpoolHealth(spool.depth, spool.holding.bytes, round(spool.holding.age(), 3))
