"""Dispatch: the one table of what is answered where; FastAPI is the entry of routes whose parameters it resolves."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from re import Pattern

from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message
from starlette.types import Scope as Connection

from app.http.admission import Admission, Slots
from app.http.documents import Document
from app.http.response import WholeResponse
from app.http.services import Services
from app.http.typed_routes import TypedRoute
from app.settings import Scope

Answer = Callable[[Connection, bytes], Awaitable[WholeResponse]]
"""Answers a request whose body is read. Raises what `problem_of` knows."""
TEMPLATE = "millirec.template"
"""Where in an ASGI scope the path of the entry stands, for the metrics; a path without one has none."""
KNOWN_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Entry:
    """What answers one method at one path, and what the edge does ahead of it.

    `scopes`: of which a caller needs any; without, no key is needed. `batch`: long work that ends when its client has
    gone. `keeps_slot`: until the answer is sent.
    """

    template: str
    answer: Answer
    scopes: tuple[Scope, ...] = ()
    admission: Admission | None = None
    takes_body: bool = False
    batch: bool = False
    keeps_slot: bool = False


class DispatchTable:
    """Entries by method and path. HEAD is answered wherever GET is."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Entry] = {}
        self._by_path: dict[str, dict[str, Entry]] = {}
        self._templates: list[tuple[Pattern[str], dict[str, Entry]]] = []

    def add(self, method: str, entry: Entry) -> None:
        """Put an entry in; its template may have parameters such as `{item_id}`."""
        if entry.template not in self._by_path:
            self._by_path[entry.template] = {}
            if "{" in entry.template:
                self._templates.append((compile_path(entry.template)[0], self._by_path[entry.template]))
        for answered in (method, "HEAD") if method == "GET" else (method,):
            self._by_path[entry.template][answered] = entry
            if "{" not in entry.template:
                self._exact[answered, entry.template] = entry

    def find(self, connection: Connection) -> tuple[Entry, Mapping[str, str]]:
        """The entry for a request and the parameters in its path. Raises 404, and 405 with the methods there are."""
        entry = self._exact.get((connection["method"], connection["path"]))
        if entry is not None:
            connection[TEMPLATE] = entry.template
            return entry, {}
        return self._match(connection)

    def _match(self, connection: Connection) -> tuple[Entry, Mapping[str, str]]:
        method, path = connection["method"], connection["path"]
        allowed = set(self._by_path.get(path, ()) if "{" not in path else ())
        for pattern, entries in self._templates:
            if matched := pattern.match(path):
                connection[TEMPLATE] = next(iter(entries.values())).template
                if method in entries:
                    return entries[method], matched.groupdict()
                allowed |= entries.keys()
        if not allowed:
            raise HTTPException(404)
        connection.setdefault(TEMPLATE, path)
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})


def table_of(
    routes: Iterable[TypedRoute],
    documents: Mapping[str, Document],
    fastapi: ASGIApp,
    services: Callable[[], Services],
    admissions: Mapping[Slots, Admission],
) -> DispatchTable:
    """The table of `routes` and `documents`; `services` returns what the lifespan has opened."""
    table = DispatchTable()
    for path, document in documents.items():
        table.add("GET", Entry(path, document.answer, admission=document.admission, keeps_slot=True))
    for route in routes:
        table.add(
            route.method,
            Entry(
                route.path,
                partial(_by_fastapi, fastapi) if route.named else _directly(route, services),
                route.scopes,
                admissions[route.slots] if route.scopes else None,
                takes_body=bool(route.bodies),
                batch=route.batch,
            ),
        )
    return table


def _directly(route: TypedRoute, services: Callable[[], Services]) -> Answer:
    """Answer without FastAPI, whose routing, dependencies and parameters take three times as long as the answer."""
    return lambda connection, content: route.answer(services(), connection, content)


async def _by_fastapi(app: ASGIApp, connection: Connection, content: bytes) -> WholeResponse:
    """The response of FastAPI, which resolves the path; its errors come out as they are."""
    messages: list[Message] = []

    async def body() -> Message:
        """The body that the edge has read."""
        return {"type": "http.request", "body": content, "more_body": False}

    async def collect(message: Message) -> None:
        """Keep a message of the answer: it is sent by the edge, like any other."""
        messages.append(message)

    # No route reads cookies, which FastAPI parses ahead of everything else.
    headers = [header for header in connection["headers"] if header[0] != b"cookie"]
    method = "GET" if connection["method"] == "HEAD" else connection["method"]
    await app({**connection, "headers": headers, "method": method}, body, collect)
    start, *parts = messages
    return WholeResponse(start["status"], list(start["headers"]), [part.get("body", b"") for part in parts])
