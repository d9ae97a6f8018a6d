"""Errors as RFC 9457 problem+json. The only place that knows which error has which status code."""

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.admission import RETRY, Overload
from app.http.bodies import Bodies, Body, BodyTooLarge, ClientGone
from app.http.schemas.events import FieldError, Problem, Receipt
from recsys.errors import Conflict, CorruptArtefact, GateRefused, InvalidInput, NotFound, RecsysError, Unavailable
from recsys.observability.throttle import log_throttled

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
GONE = 499
"""What proxies call a request whose client did not wait for the answer."""
NO_PATH = "nothing is at this path: /docs lists those there are, and none of them ends with a slash"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class NotUtf8(InvalidInput):
    """A percent-encoded part of the URL is not valid UTF-8."""

    def __init__(self, field: str) -> None:
        super().__init__(field, "is not valid UTF-8")


_STATUS: dict[type[RecsysError], tuple[int, str]] = {
    NotUtf8: (400, "Not UTF-8"),
    InvalidInput: (422, "Invalid input"),
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    Unavailable: (503, "Temporarily unavailable"),
    CorruptArtefact: (409, "Corrupt artefact"),
    GateRefused: (409, "Refused by the quality gate"),
}
_HTTP_TITLES = {
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    429: "Too many requests",
}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The response with `problem` as its body."""
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every error that leaves a route into a problem."""
    app.add_exception_handler(RecsysError, _domain_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _http_error)


def problem_of(error: Exception, path: str) -> Response:
    """The response to any error; an unexpected one is logged and becomes a 500."""
    if isinstance(error, RecsysError):
        return _of_domain(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, Overload):
        return Response(error.refusal.body, error.refusal.problem.status, RETRY, MEDIA_TYPE)
    if isinstance(error, BodyTooLarge):
        detail = f"the body is larger than the {error.limit} bytes allowed"
        return problem_response(Problem("Body too large", 413, detail))
    if isinstance(error, ClientGone):
        # For the metrics: the client does not read it.
        return problem_response(Problem("Client gone", GONE, "the client hung up before it was answered"))
    log_throttled(log, "error", "unhandled error", cause=type(error).__name__, path=path, exc_info=error)
    return problem_response(Problem("Internal error", 500, "an unexpected error was logged"))


class PartialFailure(Unavailable):
    """Some messages of a request could not be stored; `receipts` say which."""

    def __init__(self, message: str, retry_after: float, receipts: list[Receipt]) -> None:
        super().__init__(message, retry_after)
        self.receipts = receipts


async def _domain_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RecsysError)  # noqa: S101
    return _of_domain(error)


def _of_domain(error: RecsysError) -> Response:
    status, title = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "Internal error"))
    errors = [FieldError(error.field, error.reason)] if isinstance(error, InvalidInput) else []
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    receipts = error.receipts if isinstance(error, PartialFailure) else []
    return problem_response(Problem(title, status, str(error), errors=errors, receipts=receipts), headers)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    # The first place names the part of the request (query, path); the rest is the field.
    errors = [
        FieldError(".".join(str(part) for part in entry["loc"][1:]) or str(entry["loc"][0]), entry["msg"])
        for entry in error.errors()
    ]
    detail = "; ".join(f"{field_error.field}: {field_error.reason}" for field_error in errors)
    return problem_response(Problem("Invalid input", 422, detail, errors=errors))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    response = _of_http(error)
    if error.status_code == 405:
        response.headers["Allow"] = ", ".join(_allowed_methods(request))
    return response


def _of_http(error: HTTPException) -> Response:
    title = _HTTP_TITLES.get(error.status_code, "Request failed")
    detail = NO_PATH if error.status_code == 404 else error.detail
    return problem_response(Problem(title, error.status_code, detail), dict(error.headers or {}))


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes at this path; the router only names those of the first."""

    def answers(method: str) -> bool:
        """Whether a route at this path takes `method`."""
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if answers(method)]


class LastResort:
    """The outermost middleware: an error becomes a logged 500 problem, a body over the limit a 413."""

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self._app = app
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        body = Body(self._bodies, scope, receive)

        async def watched_send(message: Message) -> None:
            """Send `message`, and remember that the response has begun."""
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, body.receive, watched_send)
        except Exception as error:  # the last resort
            response = problem_of(error, scope["path"])
            if started:
                raise
            await response(scope, receive, send)
        finally:
            body.release()
