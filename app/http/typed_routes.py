"""Typed routes: a function from Structs to a Struct is a route, decoded, encoded and documented by its signature.

A route without FastAPI parameters is called by the edge itself; FastAPI resolves the others: what is in the path, and
the `model` and `limit` of a query.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.types import Scope as Connection

from app.http.admission import Slots
from app.http.callers import Needs
from app.http.decoding import decode, query_parameters
from app.http.response import WholeResponse, json_parts, json_response
from app.http.services import Services
from app.http.turns import CALLER
from app.settings import Scope

T = TypeVar("T", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Struct = type[msgspec.Struct]
Argument = Callable[[Services, Connection, bytes], Any]
"""Takes the value of a parameter from a request."""


@dataclass(frozen=True, slots=True)
class QueryString:
    """Marks the parameter that is the query string; with `fields`, only those of that Struct may be named."""

    fields: Struct | None = None


@dataclass(frozen=True, slots=True)
class InThread:
    """Marks a body that is decoded in a thread: a placement, whose expressions take long to compile."""


@dataclass(frozen=True, slots=True)
class JsonOf:
    """Marks bytes that the route decodes by itself, as one of `bodies`."""

    bodies: tuple[Struct, ...]


@dataclass(frozen=True, slots=True)
class Encoded(Generic[T]):
    """An answer that the route has encoded by itself, in parts."""

    parts: Sequence[bytes]


class TypedRoute:
    """A function that answers `method` at `path`, and what its signature and its author say of it.

    `problems` are the statuses of errors of its own; those of the edge go without saying.
    """

    def __init__(
        self,
        method: str,
        path: str,
        function: Callable[..., Awaitable[Any]],
        *,
        problems: Sequence[int] = (),
        status: int = 200,
        slots: Slots = Slots.WAITING,
        batch: bool = False,
        example: Any = None,
        answer_example: Any = None,
        headers: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.method = method
        self.path = path
        self.function = function
        self.problems = problems
        self.status = status
        self.slots = slots
        self.batch = batch
        self.example = example
        self.answer_example = answer_example
        self.headers = headers
        self.scopes: tuple[Scope, ...] = ()
        self.query: Struct | None = None
        self.bodies: tuple[Struct, ...] = ()
        self.named: list[str] = []
        """The parameters of its path."""
        self._arguments: list[tuple[str, Argument]] = []
        self._in_thread: tuple[str, Struct] | None = None
        hints = get_type_hints(function, include_extras=True)
        answer = hints.pop("return")
        self.answer_type: Struct = get_args(answer)[0] if get_origin(answer) is Encoded else answer
        for name, hint in hints.items():
            self._add(name, *(get_args(hint) if hasattr(hint, "__metadata__") else (hint,)))

    @property
    def name(self) -> str:
        """The name of the function, which is the id of the operation too."""
        return self.function.__name__

    async def answer(
        self, services: Services, connection: Connection, content: bytes, named: Mapping[str, Any] | None = None
    ) -> WholeResponse:
        """Call the function with what it takes of a request. Raises what decoding and the function raise."""
        arguments = {name: take(services, connection, content) for name, take in self._arguments}
        if self._in_thread is not None:
            name, kind = self._in_thread
            arguments[name] = await asyncio.to_thread(decode, content, kind)
        answer = await self.function(**arguments, **named) if named else await self.function(**arguments)
        return (
            json_parts(answer.parts, self.status) if isinstance(answer, Encoded) else json_response(answer, self.status)
        )

    def _add(self, name: str, kind: Any, mark: object = None, *_: object) -> None:
        """Note where the parameter `name` comes from."""
        take: Argument
        if isinstance(mark, Needs):
            self.scopes, take = mark.scopes, _caller
        elif isinstance(mark, QueryString):
            self.query, take = mark.fields or kind, _from_query(kind, mark.fields)
        elif isinstance(mark, JsonOf):
            self.bodies, take = mark.bodies, _content
        elif isinstance(mark, InThread):
            self.bodies, self._in_thread = (kind,), (name, kind)
            return
        elif kind is Services:
            take = _services
        elif kind == Connection:
            take = _connection
        elif inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
            self.bodies, take = (kind,), _from_body(kind)
        else:
            self.named.append(name)
            return
        self._arguments.append((name, take))


def _services(services: Services, _: Connection, __: bytes) -> Services:
    return services


def _connection(_: Services, connection: Connection, __: bytes) -> Connection:
    return connection


def _content(_: Services, __: Connection, content: bytes) -> bytes:
    return content


def _caller(_: Services, connection: Connection, __: bytes) -> str:
    caller: str = connection[CALLER]
    return caller


def _from_query(kind: Struct, fields: Struct | None) -> Argument:
    return lambda _, connection, __: query_parameters(connection, kind, fields)


def _from_body(kind: Struct) -> Argument:
    return lambda _, __, content: decode(content, kind)


class TypedRouter(APIRouter):
    """A router of typed routes; FastAPI knows them all, for their paths and their documentation."""

    def __init__(self, prefix: str = "", *, tag: str) -> None:
        super().__init__(prefix=prefix)
        self.typed: list[TypedRoute] = []
        self._tag = tag

    def answers(
        self, method: str, path: str, *problems: int, tag: str | None = None, **described: Any
    ) -> Callable[[F], F]:
        """Decorate a function that answers; `described` are further arguments of `TypedRoute`."""

        def add(function: F) -> F:
            """Make the function a route of this router."""
            route = TypedRoute(method, self.prefix + path, function, problems=problems, **described)
            self.typed.append(route)
            self.add_api_route(
                path,
                _endpoint(route),
                methods=[method],
                tags=[tag or self._tag],
                name=route.name,
                operation_id=route.name,
                description=inspect.cleandoc(function.__doc__ or ""),
                status_code=route.status,
                # The rest of the documentation is made of the Structs.
                responses={422: {"description": ""}},
                response_class=Response,
                response_model=None,
            )
            return function

        return add


def _endpoint(route: TypedRoute) -> Callable[..., Awaitable[Response]]:
    """The route as FastAPI takes it: of its parameters, those of the path."""

    async def endpoint(request: Request, **named: Any) -> Response:
        """Answer as the edge would."""
        response = await route.answer(request.app.state.services, request.scope, await request.body(), named)
        return Response(response.body, response.status, media_type="application/json")

    signature = inspect.signature(route.function)
    hints = get_type_hints(route.function, include_extras=True)
    parameters = [signature.parameters[name].replace(annotation=hints[name]) for name in route.named]
    first = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
    endpoint.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    return endpoint
