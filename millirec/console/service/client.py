"""The service as the console sees it: HTTP with a deadline, bounded retries and errors that people understand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from recsys.observability.text import printable
from recsys.retries import retried_async

ATTEMPTS = 3
PAUSE = 0.2
MAX_REASON = 500
"""Characters that the service takes."""
Params = Mapping[str, Any]


class SessionEnded(Exception):
    """The person has to log in again."""


class ApiDown(Exception):
    """The service does not answer at all."""


class ApiProblem(Exception):
    """The service answered with an error: `status`, `title` and `detail` are its problem+json."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail


@dataclass(slots=True)
class Reachability:
    """State of the service at the last request; shared by all pages, which show a banner while it is down."""

    down: bool = False
    reason: str = ""

    def note_answer(self) -> None:
        """Record that the service answered."""
        self.down, self.reason = False, ""

    def note_failure(self, reason: str) -> None:
        """Record that the service did not answer, and why."""
        self.down, self.reason = True, reason


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Calls in the name of one person.

    `open` is checked before each call: a page that is still on the screen after a logout can do nothing any more.
    Every call raises `ApiDown`, `ApiProblem` or `SessionEnded`.
    """

    http: httpx.AsyncClient
    reachability: Reachability
    key: str | None = field(repr=False, default=None)
    open: Callable[[], bool] = lambda: True
    person: str = ""
    shares_key: bool = False

    def signed(self, reason: str) -> str:
        """Return a reason for the audit log, with the person's name where several people share the key."""
        if not self.shares_key:
            return reason
        by = f" (by {self.person})"
        return reason[: MAX_REASON - len(by)] + by

    async def get(self, path: str, timeout: float | None = None, **params: Any) -> Any:
        """Return the JSON at `path`, fit to be shown. None parameters are left out; repeated on 503."""
        return _shown(await self.get_raw(path, timeout, **params))

    async def get_raw(self, path: str, timeout: float | None = None, **params: Any) -> Any:
        """Return the JSON at `path` as it is stored: for what is edited and sent back."""
        query = {name: value for name, value in params.items() if value is not None}
        return await retried_async(lambda: self._call("GET", path, query, None, timeout), _is_passing, ATTEMPTS, PAUSE)

    async def post(self, path: str, body: Any = None, timeout: float | None = None, **params: Any) -> Any:
        """POST once and return the JSON; never repeated, since the first request may have arrived."""
        return await self._call("POST", path, params, {} if body is None else body, timeout)

    async def put(self, path: str, body: Any, **params: Any) -> Any:
        """PUT once and return the JSON."""
        return await self._call("PUT", path, params, body, None)

    async def delete(self, path: str, **params: Any) -> Any:
        """DELETE once and return the JSON."""
        return await self._call("DELETE", path, params, None, None)

    async def _call(self, method: str, path: str, params: Params, body: Any, timeout: float | None) -> Any:
        if not self.open():
            raise SessionEnded
        headers = {} if self.key is None else {"X-API-Key": self.key}
        waiting = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            response = await self.http.request(method, path, params=params, json=body, headers=headers, timeout=waiting)
        except httpx.HTTPError as error:
            reason = "it took too long to answer" if isinstance(error, httpx.TimeoutException) else "no connection"
            self.reachability.note_failure(reason)
            raise ApiDown(reason) from error
        self.reachability.note_answer()
        if response.is_success:
            return response.json() if response.content else None
        raise _problem(response)


def _is_passing(error: Exception) -> bool:
    return isinstance(error, ApiDown) or (isinstance(error, ApiProblem) and error.status == 503)


def _shown(value: Any) -> Any:
    """Return a value with control characters written out, also those that change the direction of writing."""
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, list):
        return [_shown(part) for part in value]
    if isinstance(value, dict):
        return {_shown(name): _shown(part) for name, part in value.items()}
    return value


def _problem(response: httpx.Response) -> ApiProblem:
    try:
        body = response.json()
        return ApiProblem(response.status_code, *map(_shown, (str(body["title"]), str(body.get("detail") or ""))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiProblem(response.status_code, f"The service answered {response.status_code}", "")
