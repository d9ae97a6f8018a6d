"""uvicorn's protocol with limits on the head, on pipelined requests and on the time that anything may take."""

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http.turns import CALLER
from app.server import refusals
from app.server.connections import Connections
from app.server.joined_writes import JoinedWrites
from app.server.limits import HEALTH, LINGER, LINGER_BYTES, MAX_PATH, MAX_PIPELINE, Limits
from app.server.refusals import Refusal

STATE = "connections"
"""Where the lifespan of the application puts its `Connections`."""

BETWEEN, HEAD, BODY = 0, 1, 2
"""States of a connection: before a request, in its head, in its body."""


class Protocol(HttpToolsProtocol):
    """One connection. What the parser calls for every request is kept short."""

    transport: JoinedWrites  # type: ignore[assignment]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.ws_protocol_class = None
        self._connections: Connections = app_state.setdefault(STATE, Connections(Limits()))
        self._limits = self._connections.limits
        self.since = self._connections.now
        self.served = self._spare = False
        self._receiving = BETWEEN
        self._deaf = False
        """Nothing that arrives is looked at any more."""
        self._ignored = 0
        self._unused = 0
        """Bytes since the request last came nearer to its end."""
        self._feeds = self._fed_at_begin = self._fed_at_progress = 0
        self._refusal = refusals.MALFORMED
        self._answering: RequestResponseCycle | None = None
        self._keep_alive = True
        self._held_back = False
        """The next request waits for the peer to read the answers it has."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Enter the connection, or refuse it where there is no room."""
        super().connection_made(JoinedWrites(transport, self.loop, self._lingers))  # type: ignore[arg-type]
        room = self._connections.enter(self)
        self._spare = room is None
        if room is False:
            self._refuse(refusals.FULL)
            self.transport.close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and tell the request that is being answered."""
        self._connections.leave(self)
        if self._answering is not None and self._answering is not self.cycle:
            # The server tells the last request only, and this is an earlier one.
            self._answering.disconnected = not self._answering.response_complete
            self._answering.message_event.set()
        super().connection_lost(exc)

    @property
    def waiting(self) -> bool:
        """Whether no request is in progress, or the connection is closing."""
        idle = self.cycle is None or (self.cycle.response_complete and self._receiving != BODY)
        return idle or self.transport.is_closing()

    @property
    def holder(self) -> str:
        """The caller whose client this process waits for, to send a body or to read an answer; empty otherwise."""
        waited_for = self._receiving == BODY or self.flow.write_paused
        return str(self.cycle.scope.get(CALLER, "")) if waited_for else ""

    def look(self, now_seconds: float, patience: float) -> int:
        """End what has taken too long; called once a second. Returns the bytes of answers that are unread."""
        if self.transport.is_closing() and self._deaf:
            if now_seconds - self.since > LINGER:
                self.transport.abort()
        elif self.transport.is_closing() or self.flow.write_paused:
            if self.transport.lags(now_seconds, patience):
                self._connections.note("unread-answer")
                self.transport.abort()
            return self.transport.unread
        elif self.flow.read_paused:
            self.since = now_seconds  # this process has not read
        else:
            self._look_at_sender(now_seconds - self.since)
        return 0

    def end(self, cause: str) -> None:
        """Close without an answer, except to a client that is sending a body."""
        if self._receiving == BODY and not self.waiting:
            self._refuse(refusals.NO_ROOM)
            # Without lingering: its file is needed.
            self.transport.close_now()
            return
        self._connections.note(cause)
        if self.transport.is_closing() or not self.waiting:
            self.transport.abort()
        else:
            self._deaf = True
            self.transport.close_now()

    def _look_at_sender(self, late: float) -> None:
        limits = self._limits
        if self._receiving == BODY:
            if late > limits.body_timeout:
                self._refuse(refusals.LATE_BODY)
        elif self._receiving == HEAD:
            if late > limits.head_timeout:
                self._refuse(refusals.LATE_HEAD)
        elif self.cycle is None:
            if late > limits.head_timeout:
                self.end("silent")
        elif self.cycle.response_complete and late > self.timeout_keep_alive:
            self.end("idle")

    def data_received(self, data: bytes) -> None:
        """Parse what arrives, in pieces no longer than a head may be."""
        limit = self._limits.head_bytes
        if len(data) > limit:
            for start in range(0, len(data), limit):
                self.data_received(data[start : start + limit])
            return
        if self._deaf:
            self._ignored += len(data)
            if self._ignored > LINGER_BYTES and self.transport.is_closing():
                self.transport.abort()
            return
        self._feeds += 1
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal)
        else:
            if self._receiving:
                self._count_unused(len(data))

    def _count_unused(self, size: int) -> None:
        """Refuse an endless head, chunk or trailer, which never comes nearer to its end."""
        self._unused = 0 if self._fed_at_progress == self._feeds else self._unused + size
        too_many = self._receiving == HEAD and len(self.headers) > self._limits.head_fields
        if too_many or self._unused >= self._limits.head_bytes:
            self._refuse(self._overlong())

    def _overlong(self) -> Refusal:
        if self._receiving == BODY:
            return refusals.OVERLONG_FRAMING
        return refusals.OVERLONG_URL if 2 * len(self.url) > self._limits.head_bytes else refusals.OVERLONG_HEAD

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 as if no upgrade had been requested, except in a tunnel."""
        if self.scope["method"] == "CONNECT":
            self._deaf = True
            self.cycle.keep_alive = False
        elif rest:
            self.data_received(rest)

    def on_message_begin(self) -> None:
        """Begin a request; called by the parser, as are the next four."""
        super().on_message_begin()
        self._receiving = HEAD
        self._unused = 0
        self._fed_at_begin = self._fed_at_progress = self._feeds
        self.since = self._connections.now

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field of the head; one after a body is ignored: a key in it would come too late."""
        if self._receiving == HEAD:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the limits of the head and start the application. Raises `ValueError` to refuse it."""
        if len(self.headers) > self._limits.head_fields or (self._fed_at_begin != self._feeds and self._head_is_long()):
            raise self._fault(self._overlong())
        if len(self.url) > MAX_PATH and b"?" not in self.url[: MAX_PATH + 1]:
            raise self._fault(refusals.OVERLONG_URL)
        if self._spare and not self.url.startswith(HEALTH):
            raise self._fault(refusals.FULL)
        if len(self.pipeline) >= MAX_PIPELINE:
            raise self._fault(refusals.OVERLONG_PIPELINE)
        super().on_headers_complete()
        self._receiving = BODY
        self._unused = 0
        self._fed_at_progress = self._feeds
        self.since = self._connections.now
        cycle = self.cycle
        if self._answering is None or self._answering.response_complete:
            self._answering = cycle
        # An answer ahead of the end of the body closes the connection, for the rest of it is of no use.
        self._keep_alive = cycle.keep_alive and not self._spare
        cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body to the application."""
        super().on_body(body)
        self._fed_at_progress = self._feeds

    def on_message_complete(self) -> None:
        """Tell the application that the body is complete."""
        self._receiving = BETWEEN
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if not cycle.response_started:
            cycle.keep_alive = self._keep_alive

    def _head_is_long(self) -> bool:
        limit: int = self._limits.head_bytes
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limit

    def _fault(self, refusal: Refusal) -> ValueError:
        """Return the error that stops the parser; the peer gets the refusal."""
        self._refusal = refusal
        return ValueError(refusal.cause)

    def on_response_complete(self) -> None:
        """Go on with the next request once the peer reads; called at the end of an answer."""
        self.server_state.total_requests += 1
        self.served = True
        self.since = self._connections.now
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self.flow.pause_reading()
            self._held_back = True
        else:
            self._go_on()

    def resume_writing(self) -> None:
        """Go on with the next request when the peer has read the answers."""
        super().resume_writing()
        self.transport.keeps_up()
        if self._held_back:
            self._held_back = False
            self._go_on()

    def shutdown(self) -> None:
        """Close after the answer in progress."""
        self._keep_alive = False
        super().shutdown()

    def _go_on(self) -> None:
        if self.pipeline:
            self._answering, app = self.pipeline.pop()
            self._start_asgi_task(self._answering, app)
        else:
            self.flow.resume_reading()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal when its turn has come, and close after the answers in progress."""
        self._deaf = True
        if self.transport.is_closing():
            return
        self._connections.note(refusal.cause)
        cycle, of_body = self.cycle, self._receiving == BODY
        if cycle is not None and not cycle.response_complete:
            if not of_body:
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.transport.abort()
                return
            # Its endpoint waits for the body, and hears that it will not come.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(refusal.answer)
        self.transport.close()

    def _lingers(self) -> bool:
        """Return whether to wait for the peer to stop sending, whose system discards the answer otherwise."""
        if not self._deaf and self._receiving == BETWEEN:
            return False
        self._deaf, self.served, self.since = True, False, self._connections.now
        self.flow.resume_reading()
        return True
