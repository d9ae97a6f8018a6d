"""HotRoutes: the routes that are called a thousand times a second, answered before FastAPI's own machinery.

FastAPI documents them and checks nothing else of theirs: its routing, dependencies and parameters take three
times as long as the answer. Whatever is not one of them passes through.
"""

from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admission import SHED_BODY, SHED_HEADERS, SHED_STATUS, Admission
from app.dependencies import Services
from app.metrics import REQUEST_SECONDS, REQUESTS
from app.problems import BodyTooLarge, problem_of

log = structlog.get_logger()

Endpoint = Callable[[Services, Scope, bytes], Awaitable[bytes]]
"""Answers with JSON; raises what `problem_of` knows."""

JSON = (b"content-type", b"application/json")


def document(
    router: APIRouter,
    endpoints: Mapping[tuple[str, str], Endpoint],
    key: tuple[str, str],
    responses: dict[int | str, Any],
    described: dict[str, Any],
) -> None:
    """Have FastAPI document an endpoint, and answer with it where no `HotRoutes` stands before."""
    method, path = key
    endpoint = endpoints[key]

    async def route(request: Request) -> Response:
        answer = await endpoint(request.app.state.services, request.scope, await request.body())
        return Response(answer, media_type="application/json")

    router.add_api_route(
        path,
        route,
        methods=[method],
        name=endpoint.__name__,
        description=endpoint.__doc__,
        responses=responses,
        response_class=Response,
        openapi_extra=described,
    )


class HotRoutes:
    """Stands before `app`. `endpoints` by (method, path); `services` once the lifespan has opened them."""

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Mapping[tuple[str, str], Endpoint],
        services: Callable[[], Services],
        max_in_flight: int,
        max_body_bytes: int,
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._services = services
        self._admission = Admission(max_in_flight)
        self._limit = max_body_bytes
        self._seconds = {key: REQUEST_SECONDS.labels(key[1]) for key in endpoints}
        self._answered = {key: REQUESTS.labels(key[1], key[0], "200") for key in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = (scope["method"], scope["path"]) if scope["type"] == "http" else None
        endpoint = self._endpoints.get(key) if key else None
        if key is None or endpoint is None:
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        if not self._admission.enter():
            REQUESTS.labels(key[1], key[0], str(SHED_STATUS)).inc()
            await _respond(send, SHED_STATUS, SHED_HEADERS, SHED_BODY)
            return
        try:
            body = b"" if key[0] == "GET" else await self._body(receive)
            answer = await endpoint(self._services(), scope, body)
        except Exception as error:  # noqa: BLE001  # the last resort: a logged problem
            problem = problem_of(error, scope["path"])
            REQUESTS.labels(key[1], key[0], str(problem.status_code)).inc()
            await _respond(send, problem.status_code, problem.raw_headers, bytes(problem.body))
        else:
            self._answered[key].inc()
            await _respond(send, 200, [JSON, (b"content-length", b"%d" % len(answer))], answer)
        finally:
            self._admission.leave()
            self._seconds[key].observe(perf_counter() - began)

    async def _body(self, receive: Receive) -> bytes:
        """Raises `BodyTooLarge`."""
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > self._limit:
                raise BodyTooLarge(self._limit)
            if not message.get("more_body"):
                return body


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
