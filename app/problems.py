"""Errors as RFC 9457 problem+json. The only place that knows which error has which status code."""

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.schemas import FieldError, Problem
from recsys.errors import Conflict, CorruptArtefact, GateRefused, InvalidInput, NotFound, RecsysError, Unavailable

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"

_STATUS: dict[type[RecsysError], tuple[int, str]] = {
    InvalidInput: (422, "Invalid input"),
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    Unavailable: (503, "Temporarily unavailable"),
    CorruptArtefact: (409, "Corrupt artefact"),
    GateRefused: (409, "Refused by the quality gate"),
}
_HTTP_TITLES = {401: "Not authenticated", 403: "Not allowed", 404: "Not found", 405: "Method not allowed"}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every error that leaves a route into a problem."""
    app.add_exception_handler(RecsysError, _domain_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _http_error)


async def _domain_error(_: Request, error: Exception) -> Response:
    status, title = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "Internal error"))
    errors = [FieldError(error.field, error.reason)] if isinstance(error, InvalidInput) else []
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return problem_response(Problem(title, status, str(error), errors=errors), headers)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    # The first place names the part of the request (query, path); the rest is the field.
    errors = [
        FieldError(".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), one["msg"])
        for one in error.errors()
    ]
    detail = "; ".join(f"{one.field}: {one.reason}" for one in errors)
    return problem_response(Problem("Invalid input", 422, detail, errors=errors))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    title = _HTTP_TITLES.get(error.status_code, "Request failed")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
    return problem_response(Problem(title, error.status_code, error.detail), headers)


def _allowed_methods(request: Request) -> list[str]:
    """Of every route at this path; the router alone names only the first one's."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


class LastResort:
    """Outermost: a bug becomes a logged 500 problem, and a body over the limit a 413."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        received = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise _BodyTooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted_receive, watched_send)
        except _BodyTooLarge:
            detail = f"the body is larger than the {self._limit} bytes allowed"
            await problem_response(Problem("Body too large", 413, detail))(scope, receive, send)
        except Exception:
            log.exception("unhandled error", path=scope["path"])
            if started:
                raise
            await problem_response(Problem("Internal error", 500, "an unexpected error was logged"))(
                scope, receive, send
            )


class _BodyTooLarge(Exception):
    pass
