"""What routes ask for: the services, a caller with the right scope, a decoded body."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, TypeVar
from urllib.parse import unquote_plus

import msgspec
from fastapi import Depends, Request, Response
from starlette.types import Scope as Connection

from app.admission import Admission
from app.callers import Caller, Callers
from app.cursor import Cursors
from app.expressions import Expressions
from app.index_watcher import IndexWatcher
from app.interaction_producer import InteractionProducer
from app.live_index import LiveIndex
from app.outline import LARGE, check_lists
from app.placement_watcher import PlacementWatcher
from app.serving import Serving
from app.settings import Scope, ServeSettings
from app.turns import CALLER, LONG, Turns
from app.utf8 import check_query
from recsys.errors import InvalidInput
from recsys.feature_store import FeatureStore
from recsys.index_registry import IndexRegistry
from recsys.index_registry.receipts import ErasureReceipts
from recsys.placement import Placement
from recsys.settings import TimeBounds
from recsys.wire import invalid_input

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
MAX_PARAMETERS = 4096


@dataclass(frozen=True, slots=True)
class Services:
    """Everything `create_app` built, for the routes."""

    settings: ServeSettings
    callers: Callers
    turns: Turns
    singles: Admission
    batches: Admission
    expressions: Expressions
    bounds: TimeBounds
    cursors: Cursors
    serving: Serving
    live_index: LiveIndex
    watcher: IndexWatcher
    producer: InteractionProducer
    store: FeatureStore
    registry: IndexRegistry
    placement_watcher: PlacementWatcher
    receipts: ErasureReceipts

    def placements(self) -> Mapping[str, Placement]:
        return self.placement_watcher.current


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


async def _services(request: Request) -> Services:
    # async, because FastAPI runs plain functions in a thread, which costs more than the whole answer.
    return services_of(request)


Use = Annotated[Services, Depends(_services)]


def authorise(use: Services, connection: Connection, *scopes: Scope) -> Caller:
    """Who calls, with any of `scopes`. Raises 401, 403 and 429 as `Callers.admit` does."""
    caller = use.callers.admit(presented_key(connection), scopes)
    connection[CALLER] = caller.name
    return caller


class _With:
    """The caller as a dependency of a route; `scopes` are what the route's documentation says."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> str:
        return authorise(services_of(request), request.scope, *self.scopes).name


def caller_with(*scopes: Scope) -> Callable[..., Awaitable[str]]:
    """The name of a caller with any of `scopes`."""
    return _With(*scopes)


def scopes_of(dependency: object) -> tuple[Scope, ...]:
    """Any of which opens a route with this dependency; none where it asks for no key."""
    return dependency.scopes if isinstance(dependency, _With) else ()


def presented_key(connection: Connection) -> bytes:
    """The first that is not empty, of `X-API-Key`, else of the bearer tokens; `app.openapi` documents them."""
    token = b""
    for name, value in connection["headers"]:
        if name == b"x-api-key":
            if key := bytes(value).strip():
                return key
        elif name == b"authorization" and not token:
            kind, _, credentials = value.strip().partition(b" ")
            token = credentials.strip() if kind.lower() == b"bearer" else b""
    return token


Recommending = Annotated[str, Depends(caller_with(Scope.RECOMMEND))]
Producing = Annotated[str, Depends(caller_with(Scope.EVENTS))]
Curating = Annotated[str, Depends(caller_with(Scope.CATALOGUE))]
ReadingItems = Annotated[str, Depends(caller_with(Scope.CATALOGUE, Scope.ADMIN))]
CaringForUsers = Annotated[str, Depends(caller_with(Scope.USERS, Scope.ADMIN))]
Administering = Annotated[str, Depends(caller_with(Scope.ADMIN))]


async def decode_body(request: Request, kind: type[T]) -> T:
    """The body as `kind`; a long one in its turn. Raises `InvalidInput` naming the field."""
    body = await request.body()
    if len(body) > LONG:
        await services_of(request).turns.turn(request.scope)
    return decode(body, kind)


async def decode_beside(request: Request, kind: type[T]) -> T:
    """The same beside the event loop, for bodies with placements, whose expressions take a while."""
    return await asyncio.to_thread(decode, await request.body(), kind)


def decode(raw: bytes | msgspec.Raw, kind: type[T], prefix: str = "") -> T:
    try:
        if len(raw) > LARGE:
            check_lists(raw, kind)
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_input(error, prefix or "body") from error


def query_parameters(connection: Connection, kind: type[S], documented: type[msgspec.Struct] | None = None) -> S:
    """The query string as `kind`, of which only the fields of `documented` may be named.

    A list is given by repeating its name; `properties` may be joined by commas as well. Raises `InvalidInput`.
    """
    raw = connection["query_string"]
    if raw.count(b"&") >= MAX_PARAMETERS:
        raise InvalidInput("query", f"has more than the {MAX_PARAMETERS} parameters allowed")
    lists, known = _fields(documented or kind)
    values: dict[str, str | list[str]] = {}
    for name, value in _parameters(raw) if raw else ():
        if name not in known:
            raise InvalidInput(name[:64], "is not a parameter of this route")
        if name in lists:
            values.setdefault(name, []).extend(value.split(",") if name == "properties" else (value,))  # type: ignore[union-attr]
        elif name in values:
            raise InvalidInput(name, "is given twice")
        else:
            values[name] = value
    try:
        found = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_input(error, "query") from error
    for name in values:
        # Lenient conversion takes the text "null" for nothing at all.
        if getattr(found, name) is None:
            raise InvalidInput(name, "needs a value")
    return found


def _parameters(raw: bytes) -> list[tuple[str, str]]:
    """Raises `NotUtf8`."""
    try:
        return [_parameter(part) for part in raw.decode().split("&")]
    except UnicodeDecodeError:
        check_query(raw)
        raise


def _parameter(part: str) -> tuple[str, str]:
    """Most values are plain; `urllib.parse` would take as long for them as for the others."""
    name, _, value = part.partition("=")
    return unquote_plus(name, errors="strict"), (
        unquote_plus(value, errors="strict") if "%" in value or "+" in value else value
    )


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the fields that are lists, and of all."""
    fields = msgspec.structs.fields(kind)
    lists = {one.name for one in fields if "list[" in str(one.type)}
    return frozenset(lists), frozenset(one.name for one in fields)


def json_response(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
