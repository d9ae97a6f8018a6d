"""GET /asyncapi.json: the interaction topic for producers, as `/openapi.json` is the API for clients."""

from fastapi import APIRouter, Response

from recsys.envelope_schemas import asyncapi, pretty


def router_of(topic: str) -> APIRouter:
    """The document of the topic of this name."""
    router = APIRouter()

    @router.get("/asyncapi.json", include_in_schema=False)
    async def get_asyncapi() -> Response:
        return Response(pretty(asyncapi(topic)), media_type="application/json")

    return router
