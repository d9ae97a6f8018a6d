"""Errors as RFC 9457 problem+json. The only place that knows which error has which status code."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.http.admission import Overload
from app.http.bodies import BodyTooLarge, ClientGone
from app.http.response import PROBLEM_TYPE, WholeResponse
from app.http.schemas.events import FieldError, Problem, Receipt
from recsys.errors import Conflict, CorruptArtefact, GateRefused, InvalidInput, NotFound, RecsysError, Unavailable
from recsys.observability.throttle import log_throttled

log = structlog.get_logger()
GONE = 499
"""What proxies call a request whose client did not wait for the answer."""
NO_PATH = "nothing is at this path: /docs lists those there are, and none of them ends with a slash"


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


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> WholeResponse:
    """The response with `problem` as its body."""
    body = msgspec.json.encode(problem)
    more = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return WholeResponse(problem.status, [PROBLEM_TYPE, (b"content-length", b"%d" % len(body)), *more], (body,))


def problem_of(error: Exception, path: str) -> WholeResponse:
    """The response to any error; an unexpected one is logged and becomes a 500."""
    for kind, response in _RESPONSES:
        if isinstance(error, kind):
            return response(error)
    log_throttled(log, "error", "unhandled error", cause=type(error).__name__, path=path, exc_info=error)
    return problem_response(Problem("Internal error", 500, "an unexpected error was logged"))


class PartialFailure(Unavailable):
    """Some messages of a request could not be stored; `receipts` say which."""

    def __init__(self, message: str, retry_after: float, receipts: list[Receipt]) -> None:
        super().__init__(message, retry_after)
        self.receipts = receipts


def _of_domain(error: RecsysError) -> WholeResponse:
    status, title = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "Internal error"))
    errors = [FieldError(error.field, error.reason)] if isinstance(error, InvalidInput) else []
    headers = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    receipts = error.receipts if isinstance(error, PartialFailure) else []
    return problem_response(Problem(title, status, str(error), errors=errors, receipts=receipts), headers)


def _of_validation(error: RequestValidationError) -> WholeResponse:
    # The first place names the part of the request (query, path); the rest is the field.
    errors = [
        FieldError(".".join(str(part) for part in entry["loc"][1:]) or str(entry["loc"][0]), entry["msg"])
        for entry in error.errors()
    ]
    detail = "; ".join(f"{field_error.field}: {field_error.reason}" for field_error in errors)
    return problem_response(Problem("Invalid input", 422, detail, errors=errors))


def _of_http(error: HTTPException) -> WholeResponse:
    title = _HTTP_TITLES.get(error.status_code, "Request failed")
    detail = NO_PATH if error.status_code == 404 else error.detail
    return problem_response(Problem(title, error.status_code, detail), error.headers)


def _of_size(error: BodyTooLarge) -> WholeResponse:
    return problem_response(Problem("Body too large", 413, f"the body is larger than the {error.limit} bytes allowed"))


def _of_absence(_: ClientGone) -> WholeResponse:
    # For the metrics: the client does not read it.
    return problem_response(Problem("Client gone", GONE, "the client hung up before it was answered"))


def _of_overload(error: Overload) -> WholeResponse:
    return error.refusal.response


_RESPONSES: tuple[tuple[type[Exception], Callable[[Any], WholeResponse]], ...] = (
    (Overload, _of_overload),
    (RecsysError, _of_domain),
    (HTTPException, _of_http),
    (RequestValidationError, _of_validation),
    (BodyTooLarge, _of_size),
    (ClientGone, _of_absence),
)
