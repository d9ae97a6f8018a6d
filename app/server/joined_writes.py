"""The head and the body of an answer leave in one write: two cost 5 of the 20 microseconds that uvicorn takes."""

import asyncio
from collections.abc import Callable

LARGE = 16_384
"""Bytes that are not worth joining with others, and leave at once: then the transport says when the peer lags."""
MIN_READ = 262_144
"""Bytes of a large answer that a peer has to take within the write timeout."""


class JoinedWrites:
    """A transport that joins the writes of one turn of the event loop into one.

    `close` waits where `lingers` says that the peer is still sending: its system would discard the answer when it
    sends into a closed connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        lingers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._lingers = lingers
        self._written: list[bytes] = []
        self._bytes = 0
        self._stalled: tuple[float, int] | None = None
        """Since when the peer lags behind its answer, and how much it had read by then."""
        # Bound once: they are called for every request.
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.set_protocol = transport.set_protocol

    @property
    def unread(self) -> int:
        """Bytes in the write buffer that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    def lags(self, now_seconds: float, patience: float) -> bool:
        """Whether the peer has read next to nothing for `patience` seconds; asked again and again while it lags."""
        read_by_peer = self._bytes - self.unread
        began, had = self._stalled or (now_seconds, read_by_peer)
        if now_seconds - began < patience:
            self._stalled = (began, had)
            return False
        self._stalled = (now_seconds, read_by_peer)
        return read_by_peer - had < MIN_READ

    def keeps_up(self) -> None:
        """Note that the peer does not lag any more."""
        self._stalled = None

    def write(self, data: bytes) -> None:
        """Write at the end of this turn of the event loop; at once when it is large."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)
        if len(data) > LARGE:
            self._flush()

    def close(self) -> None:
        """Write what is left and close, only the sending side while the peer is still sending."""
        self._flush()
        if self._transport.is_closing():
            return
        if self._lingers():
            self.is_closing = _always
            self._transport.write_eof()
        else:
            self._transport.close()

    def close_now(self) -> None:
        """Write what is left and close both sides."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close without writing what is left."""
        self._transport.abort()

    def _flush(self) -> None:
        written, self._written = self._written, []
        # A closing transport would log a warning for each write.
        if written and not self.is_closing():
            data = b"".join(written)
            self._bytes += len(data)
            self._transport.write(data)


def _always() -> bool:
    return True
