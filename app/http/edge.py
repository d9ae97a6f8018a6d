"""Edge: what is done with every request, once and in one order, around the one table of what answers it.

Metrics and requests in flight; origin and CORS; the entry of the table; the key; the body; a slot; a turn for what is
long; the answer, or the problem.
"""

import asyncio
from collections.abc import Awaitable
from functools import cache
from time import perf_counter

from prometheus_client import Counter, Histogram
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from app.http.admission import Admission, UnreadAnswers
from app.http.bodies import Bodies, Body, ClientGone
from app.http.callers import ANYBODY, Callers, presented_key
from app.http.decoding import check_path, check_query
from app.http.dispatch import KNOWN_METHODS, TEMPLATE, DispatchTable
from app.http.origins import OriginCheck, refusal_of_body
from app.http.problems import GONE, problem_of
from app.http.response import WholeResponse
from app.http.turns import CALLER, LONG, Turns
from app.metrics import IN_FLIGHT, REQUEST_SECONDS, REQUESTS
from app.settings import ServeSettings

LONG_QUERY = LONG // 4
"""Bytes of a query that is worth a turn: it is decoded up to twice."""


class Edge:
    """The ASGI application that gets each HTTP request."""

    def __init__(self, table: DispatchTable, callers: Callers, turns: Turns, serve: ServeSettings) -> None:
        self._table = table
        self._callers = callers
        self._turns = turns
        self._bodies = Bodies(serve.max_body_bytes, serve.max_bodies_bytes, shared=callers.several)
        self._unread = UnreadAnswers()
        # With keys a page of another origin does no harm, since no browser adds a key by itself.
        self._origins = None if serve.keys else OriginCheck(serve.host, serve.allowed_hosts, serve.cors_origins)
        self._shared: ASGIApp = self._dispatch
        if serve.cors_origins:
            self._shared = CORSMiddleware(
                self._dispatch, allow_origins=serve.cors_origins, allow_methods=["*"], allow_headers=["*"]
            )

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        measured = _MeasuredSend(scope, send)
        IN_FLIGHT.inc()
        try:
            refusal = self._origins.refusal(scope) if self._origins is not None else None
            await (refusal or self._shared)(scope, receive, measured)
        finally:
            IN_FLIGHT.dec()
            measured.end()

    async def _dispatch(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer by the table, and hold what the request takes for as long as it takes it."""
        held = _Held(self._bodies, scope, receive)
        try:
            try:
                response = await self._response(held, scope, receive)
            except Exception as error:  # noqa: BLE001  # the last resort: a logged problem
                response = problem_of(error, scope["path"])
            if not held.keeps_slot:
                held.release()
            if held.of_batch:
                with self._unread.holding(held.caller, response.size):
                    await response(scope, receive, send)
            else:
                await response(scope, receive, send)
        finally:
            held.release()

    async def _response(self, held: "_Held", scope: Connection, receive: Receive) -> WholeResponse:
        """In this order: without a key nothing is read or decoded, and a slot is taken once the body is whole.

        Raises what `problem_of` knows.
        """
        if self._origins is not None and (refusal := refusal_of_body(scope)):
            return refusal
        entry, parameters = self._table.find(scope)
        check_path(scope, parameters)
        if entry.scopes:
            held.caller = scope[CALLER] = self._callers.admit(presented_key(scope), entry.scopes).name
        else:
            # What needs no key reads no query.
            scope["query_string"] = b""
        content = await held.body.read() if entry.takes_body else b""
        if entry.batch:
            self._unread.check(held.caller)
            held.of_batch = True
        if entry.admission is not None:
            held.enter(entry.admission, keeps_slot=entry.keeps_slot)
        if len(content) > LONG or len(scope["query_string"]) > LONG_QUERY:
            await self._turns.turn(scope)
        check_query(scope["query_string"])
        work = entry.answer(scope, content)
        return await (_until_gone(work, receive) if entry.batch else work)


class _Held:
    """What a request holds until it is answered: the room of its body, and a slot."""

    __slots__ = ("_admission", "body", "caller", "keeps_slot", "of_batch")

    def __init__(self, bodies: Bodies, scope: Connection, receive: Receive) -> None:
        self.body = Body(bodies, scope, receive)
        self.caller = ANYBODY
        self.keeps_slot = False
        self.of_batch = False
        self._admission: Admission | None = None

    def enter(self, admission: Admission, *, keeps_slot: bool) -> None:
        """Take a slot, until `release`. Raises `Overload`."""
        admission.enter(self.caller)
        self._admission, self.keeps_slot = admission, keeps_slot

    def release(self) -> None:
        """Give everything back; does no harm twice."""
        self.body.release()
        if self._admission is not None:
            self._admission.leave(self.caller)
            self._admission = None


class _MeasuredSend:
    """An ASGI `send` that counts an answer when it begins: clients may read slowly, and the metrics do not wait."""

    __slots__ = ("_began", "_scope", "_send", "_started")

    def __init__(self, scope: Connection, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = perf_counter()
        self._started = False

    async def __call__(self, message: Message) -> None:
        if not self._started:
            self._count(message["status"])
        await self._send(message)

    def end(self) -> None:
        """Count a request that nobody waited for."""
        if not self._started:
            self._count(GONE)

    def _count(self, status: int) -> None:
        """Only templates and known methods become labels: a scanner must not fill the memory."""
        self._started = True
        template, method = self._scope.get(TEMPLATE, "unmatched"), self._scope["method"]
        method = method if method in KNOWN_METHODS else "other"
        _counter(template, method, status).inc()
        _histogram(template).observe(perf_counter() - self._began)


@cache
def _counter(template: str, method: str, status: int) -> Counter:
    """Looked up once: finding a child by its labels costs more than counting."""
    return REQUESTS.labels(template, method, str(status))


@cache
def _histogram(template: str) -> Histogram:
    return REQUEST_SECONDS.labels(template)


async def _until_gone(work: Awaitable[WholeResponse], receive: Receive) -> WholeResponse:
    """The result of `work`. If the client hangs up first, the work is cancelled and `ClientGone` raised."""
    task, hang_up = asyncio.ensure_future(work), asyncio.create_task(_hang_up(receive))
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
