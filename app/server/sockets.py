"""The same protocol for a program with web sockets: a connection that becomes one is handed over."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.server.limits import RESERVE, SPARE, Limits, open_files
from app.server.protocol import Protocol
from app.server.refusals import FULL

CONNECTIONS = 1024
"""Of people who look at pages; a page takes two or three."""


def limits() -> Limits:
    """Return the usual limits, as far as this process may open files."""
    return Limits(connections=max(1, min(CONNECTIONS, open_files()[0] - RESERVE - SPARE)))


class SocketProtocol(Protocol):
    """The protocol with web sockets: such a connection has its own protocol and is not counted any more."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # The protocol of a service has none.
        self.ws_protocol_class = config.ws_protocol_class

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport for a web socket."""
        self._bare = transport
        super().connection_made(transport)

    def on_headers_complete(self) -> None:
        """Check the limits of a request for a web socket."""
        if not self._becomes_socket:
            super().on_headers_complete()
            return
        if len(self.headers) > self._limits.head_fields or self._head_is_long():
            raise self._fault(self._overlong())
        if self._spare:
            raise self._fault(FULL)
        HttpToolsProtocol.on_headers_complete(self)

    def on_message_complete(self) -> None:
        """Complete a request, unless it becomes a web socket."""
        if not self._becomes_socket:
            super().on_message_complete()

    @property
    def _becomes_socket(self) -> bool:
        return self.parser.should_upgrade() and self._should_upgrade()

    def _decline_upgrade(self, rest: bytes) -> None:
        if not self._should_upgrade():
            super()._decline_upgrade(rest)
            return
        self._connections.leave(self)
        # Not the one whose writes are joined: a socket has its own way with its transport.
        self.transport = self._bare  # type: ignore[assignment]
        self.handle_websocket_upgrade()
