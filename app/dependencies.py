"""What routes ask for: the services, a caller with the right scope, a decoded body."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, HTTPException, Request, Response

from app.index_watcher import IndexWatcher
from app.interaction_producer import InteractionProducer
from app.live_index import LiveIndex
from app.serving import Serving
from app.settings import ApiKey, Scope, ServeSettings
from recsys.feature_store import FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.wire import invalid_input

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """Everything `create_app` built, for the routes."""

    settings: ServeSettings
    serving: Serving
    live_index: LiveIndex
    watcher: IndexWatcher
    producer: InteractionProducer
    store: FeatureStore
    registry: IndexRegistry


async def services(request: Request) -> Services:
    # async, because FastAPI runs plain functions in a thread, which costs more than the whole answer.
    found: Services = request.app.state.services
    return found


Use = Annotated[Services, Depends(services)]

ANYBODY = "anonymous"


def caller_with(scope: Scope) -> Callable[..., Awaitable[str]]:
    """A dependency that yields the caller's name. 401 for a wrong or missing key, 403 without `scope`."""

    async def authorise(request: Request) -> str:
        keys = request.app.state.services.settings.keys
        if not keys:
            return ANYBODY
        holder = holder_of(keys, presented_key(request))
        if holder is None:
            raise HTTPException(
                401, "send a valid key in X-API-Key or as a bearer token", {"WWW-Authenticate": "Bearer"}
            )
        if scope not in holder.scopes:
            raise HTTPException(403, f"the key of {holder.name!r} does not have the scope {scope.value!r}")
        return holder.name

    return authorise


def presented_key(request: Request) -> str:
    """From `X-API-Key`, else the bearer token, else empty.

    Read here rather than by FastAPI's security dependencies, which cost three more calls on every request;
    `app.openapi` documents them.
    """
    key = request.headers.get("x-api-key")
    if key is not None:
        return key
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def holder_of(keys: tuple[ApiKey, ...], presented: str) -> ApiKey | None:
    """Whose key this is; takes as long for a wrong key as for the last right one."""
    digest = sha256(presented.encode()).hexdigest()
    found = None
    for key in keys:
        if compare_digest(digest, key.sha256):
            found = key
    return found


Recommending = Annotated[str, Depends(caller_with(Scope.RECOMMEND))]
Producing = Annotated[str, Depends(caller_with(Scope.EVENTS))]
Administering = Annotated[str, Depends(caller_with(Scope.ADMIN))]


async def decode_body(request: Request, kind: type[T]) -> T:
    """The body as `kind`. Raises `InvalidInput` naming the field."""
    return decode(await request.body(), kind)


def decode(raw: bytes | msgspec.Raw, kind: type[T], prefix: str = "") -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid_input(error, prefix or "body") from error


def json_response(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
