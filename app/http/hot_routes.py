"""HotRoutes: the routes that are called a thousand times a second, answered before FastAPI's own machinery.

FastAPI only documents them: its routing, dependencies and parameters take three times as long as the answer.
Other requests pass through.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from app.http.admission import UNREAD, Overload
from app.http.bodies import Bodies, Body, ClientGone
from app.http.dependencies import Services, authorise, caller_with, services_of
from app.http.problems import problem_of
from app.http.turns import LONG
from app.metrics import REFUSED, REQUEST_SECONDS, REQUESTS
from app.settings import Scope

T = TypeVar("T")
Parts = Sequence[bytes]
"""An answer in parts, none of them empty; a part is sent once the client has read enough of the earlier ones."""
Endpoint = Callable[[Services, Connection, bytes], Coroutine[Any, Any, bytes | Parts]]
"""Answers with JSON; raises what `problem_of` knows. Its caller has the scope."""

MAX_UNSENT = 33_554_432
"""Bytes of answers to batches that a caller has yet to read, before more batches get 429."""
JSON = (b"content-type", b"application/json")
Key = tuple[str, str]
"""Method and path."""


@dataclass(frozen=True, slots=True)
class HotRoute:
    """An endpoint and the scope that opens it.

    `batch`: long work, with slots of its own, which ends when its client has gone.
    """

    endpoint: Endpoint
    scope: Scope
    batch: bool = False


def document(
    router: APIRouter,
    routes: Mapping[Key, HotRoute],
    key: Key,
    responses: dict[int | str, Any],
    described: dict[str, Any],
) -> None:
    """Add an endpoint to FastAPI: for its documentation, and for applications without `HotRoutes`."""
    method, path = key
    hot = routes[key]

    async def route(request: Request) -> Response:
        """Answer with the endpoint, for applications without `HotRoutes`."""
        answer = await hot.endpoint(services_of(request), request.scope, await request.body())
        return Response(answer if isinstance(answer, bytes) else b"".join(answer), media_type="application/json")

    router.add_api_route(
        path,
        route,
        methods=[method],
        name=hot.endpoint.__name__,
        description=hot.endpoint.__doc__,
        dependencies=[Depends(caller_with(hot.scope))],
        responses=responses,
        response_class=Response,
        openapi_extra=described,
    )


class HotRoutes:
    """ASGI application before `app`. `services` returns what the lifespan has opened."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[Key, HotRoute],
        services: Callable[[], Services],
        bodies: Bodies,
    ) -> None:
        self._app = app
        self._routes = routes
        self._services = services
        self._bodies = bodies
        self._unsent: Counter[str] = Counter()
        self._seconds = {key: REQUEST_SECONDS.labels(key[1]) for key in routes}
        self._ok_counts = {key: REQUESTS.labels(key[1], key[0], "200") for key in routes}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        key = (scope["method"], scope["path"]) if scope["type"] == "http" else None
        route = self._routes.get(key) if key else None
        if key is None or route is None:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        body: Body | None = None
        parts: Parts
        caller = ""
        try:
            # In this order: a request without a key is refused before its body is read; only then is a slot taken.
            services = self._services()
            caller = authorise(services, scope, route.scope).name
            content = b""
            if key[0] != "GET":
                body = Body(self._bodies, scope, receive)
                content = await body.read()
            answer = await self._admit(route, services, caller, scope, content, receive)
        except Overload as error:
            refusal = error.refusal
            status, headers, parts = refusal.problem.status, refusal.headers, (refusal.body,)
        except Exception as error:  # noqa: BLE001  # the last resort: a logged problem
            problem = problem_of(error, scope["path"])
            status, headers, parts = problem.status_code, problem.raw_headers, (bytes(problem.body),)
        else:
            status, parts = 200, (answer,) if isinstance(answer, bytes) else answer
            headers = [JSON, (b"content-length", b"%d" % sum(map(len, parts)))]
        finally:
            if body is not None:
                body.release()
        # Counted before it is sent, since a client may read slowly, and the metrics must not wait for that.
        if status == 200:
            self._ok_counts[key].inc()
        else:
            REQUESTS.labels(key[1], key[0], str(status)).inc()
        self._seconds[key].observe(perf_counter() - began)
        if route.batch:
            await self._respond_at_leisure(caller, send, status, headers, parts)
        else:
            await _respond(send, status, headers, parts)

    async def _respond_at_leisure(
        self, caller: str, send: Send, status: int, headers: list[tuple[bytes, bytes]], parts: Parts
    ) -> None:
        """Send the answer to a batch: its slot is free already; its memory counts until the client has read it."""
        size = sum(map(len, parts))
        self._unsent[caller] += size
        try:
            await _respond(send, status, headers, parts)
        finally:
            self._unsent[caller] -= size

    async def _admit(
        self, route: HotRoute, services: Services, caller: str, scope: Connection, content: bytes, receive: Receive
    ) -> bytes | Parts:
        """The answer of the endpoint, with a slot taken while it works. Raises `Overload`."""
        if route.batch and self._unsent[caller] > MAX_UNSENT:
            REFUSED.labels(caller, "unread").inc()
            raise Overload(UNREAD)
        slots = services.batches if route.batch else services.singles
        slots.enter(caller)
        try:
            if len(content) > LONG or len(scope["query_string"]) > LONG:
                await services.turns.turn(scope)
            work = route.endpoint(services, scope, content)
            return await (_until_gone(work, receive) if route.batch else work)
        finally:
            slots.leave(caller)


async def _until_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of `work`. If the client hangs up first, the work is cancelled and `ClientGone` raised."""
    task, hang_up = asyncio.create_task(work), asyncio.create_task(_hang_up(receive))
    try:
        await asyncio.wait((task, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        hang_up.cancel()
        task.cancel()
        await asyncio.wait((task, hang_up))


async def _hang_up(receive: Receive) -> None:
    """Wait until the client closes the connection; its body was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], parts: Parts) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": parts[-1]})
