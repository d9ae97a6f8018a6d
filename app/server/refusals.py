"""Refusals: answers to what never becomes a request, built once, since attackers cause many."""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from app.http.response import PROBLEM
from app.http.schemas.events import Problem


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that ends the connection; `cause` is its name in the log and in the metric."""

    cause: str
    answer: bytes

    @classmethod
    def of(cls, cause: str, status: HTTPStatus, detail: str, *headers: str) -> "Refusal":
        """Build the answer with a problem as its body."""
        body = msgspec.json.encode(Problem(status.phrase, status.value, detail))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-type: {PROBLEM}",
            f"content-length: {len(body)}",
            "connection: close",
            *headers,
        )
        return cls(cause, "\r\n".join([*head, "\r\n"]).encode() + body)


MALFORMED = Refusal.of("malformed", HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
OVERLONG_FRAMING = Refusal.of(
    "overlong-framing", HTTPStatus.BAD_REQUEST, "the chunks of the body are framed by more bytes than they are worth"
)
OVERLONG_URL = Refusal.of(
    "overlong-url", HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is longer than allowed: send a body instead"
)
OVERLONG_HEAD = Refusal.of(
    "overlong-head",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the head of the request has more bytes or fields than allowed",
)
OVERLONG_PIPELINE = Refusal.of(
    "overlong-pipeline", HTTPStatus.BAD_REQUEST, "more requests were sent ahead of the answers than allowed"
)
LATE_HEAD = Refusal.of("late-head", HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not arrive in time")
LATE_BODY = Refusal.of("late-body", HTTPStatus.REQUEST_TIMEOUT, "the body of the request did not arrive in time")
NO_ROOM = Refusal.of(
    "no-room",
    HTTPStatus.REQUEST_TIMEOUT,
    "the body of the request had yet to arrive when others needed the connection; try again",
)
FULL = Refusal.of(
    "full",
    HTTPStatus.SERVICE_UNAVAILABLE,
    "this process has as many connections as it may have; try again",
    "retry-after: 1",
)
