"""Dependencies of routes: the services, a caller with the right scope, a decoded body."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, TypeVar
from urllib.parse import unquote_plus

import msgspec
from fastapi import Depends, Request, Response
from starlette.types import Scope as Connection

from app.http.admission import Admission
from app.http.callers import Caller, Callers
from app.http.cursor import Cursors
from app.http.expressions import Expressions
from app.http.outline import LARGE, check_lists
from app.http.turns import CALLER, LONG, Turns
from app.http.utf8 import check_query
from app.serving.answerer import Answerer
from app.serving.micro_batcher import MicroBatcher
from app.settings import Scope, ServeSettings
from app.spool.producer import InteractionProducer
from app.versions.index_watcher import IndexWatcher
from app.versions.live_index import LiveIndex
from app.versions.placement_watcher import PlacementWatcher
from recsys.errors import InvalidInput
from recsys.messages.wire import invalid_input
from recsys.recommender.placement import Placement
from recsys.settings import TimeBounds
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.online import Stores
from recsys.stores.receipts import ErasureReceipts
from recsys.stores.settings_log import SettingsLog

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
    answerer: Answerer
    batcher: MicroBatcher
    live_index: LiveIndex
    watcher: IndexWatcher
    producer: InteractionProducer
    stores: Stores
    registry: ModelRegistry
    settings_log: SettingsLog
    placement_watcher: PlacementWatcher
    receipts: ErasureReceipts

    def placements(self) -> Mapping[str, Placement]:
        """The placements in force now, by name."""
        return self.placement_watcher.current


def services_of(request: Request) -> Services:
    """The services of the application that received `request`."""
    services: Services = request.app.state.services
    return services


async def _services(request: Request) -> Services:
    # async, because FastAPI runs plain functions in a thread, which costs more than the whole answer.
    return services_of(request)


Use = Annotated[Services, Depends(_services)]


def authorise(services: Services, connection: Connection, *scopes: Scope) -> Caller:
    """Who calls, with any of `scopes`. Raises 401, 403 and 429 as `Callers.admit` does."""
    caller = services.callers.admit(presented_key(connection), scopes)
    connection[CALLER] = caller.name
    return caller


class _With:
    """The caller as a dependency of a route; `scopes` are what the route's documentation says."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> str:
        return authorise(services_of(request), request.scope, *self.scopes).name


def caller_with(*scopes: Scope) -> Callable[..., Awaitable[str]]:
    """A dependency that returns the name of a caller with any of `scopes`."""
    return _With(*scopes)


def scopes_of(dependency: object) -> tuple[Scope, ...]:
    """The scopes of which a route with this dependency needs any; empty if it needs no key."""
    return dependency.scopes if isinstance(dependency, _With) else ()


def presented_key(connection: Connection) -> bytes:
    """The key of a request: from `X-API-Key`, else the bearer token; empty without one."""
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
    """The body as `kind`, decoded in a thread: for placements, whose expressions take long to compile."""
    return await asyncio.to_thread(decode, await request.body(), kind)


def decode(raw: bytes | msgspec.Raw, kind: type[T], prefix: str = "") -> T:
    """The JSON document `raw` as `kind`. Raises `InvalidInput` naming the field below `prefix`."""
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
    lists, field_names = _fields(documented or kind)
    values: dict[str, str | list[str]] = {}
    for name, value in _parameters(raw) if raw else ():
        if name not in field_names:
            raise InvalidInput(name[:64], "is not a parameter of this route")
        if name in lists:
            values.setdefault(name, []).extend(value.split(",") if name == "properties" else (value,))  # type: ignore[union-attr]
        elif name in values:
            raise InvalidInput(name, "is given twice")
        else:
            values[name] = value
    try:
        parameters = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_input(error, "query") from error
    for name in values:
        # Lenient conversion takes the text "null" for nothing at all.
        if getattr(parameters, name) is None:
            raise InvalidInput(name, "needs a value")
    return parameters


def _parameters(raw: bytes) -> list[tuple[str, str]]:
    """The names and values in a query string. Raises `NotUtf8`."""
    try:
        return [_parameter(part) for part in raw.decode().split("&")]
    except UnicodeDecodeError:
        check_query(raw)
        raise


def _parameter(part: str) -> tuple[str, str]:
    """The name and the value of one parameter. Plain values skip `urllib.parse`, which is slow."""
    name, _, value = part.partition("=")
    return unquote_plus(name, errors="strict"), (
        unquote_plus(value, errors="strict") if "%" in value or "+" in value else value
    )


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the fields that are lists, and of all fields."""
    fields = msgspec.structs.fields(kind)
    lists = {field.name for field in fields if "list[" in str(field.type)}
    return frozenset(lists), frozenset(field.name for field in fields)


def json_response(body: object, status: int = 200) -> Response:
    """A response with `body` as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")
