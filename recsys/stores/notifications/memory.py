"""Notifications inside one process, for tests and experiments."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Channel:
    news: asyncio.Event = field(default_factory=asyncio.Event)
    payload: str = ""


class MemoryNotifications:
    """`Notifications` by events of the event loop."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}

    async def send(self, channel: str, payload: str = "") -> None:
        """See `Notifications.send`; a channel that was never waited on drops the payload."""
        if channel in self._channels:
            self._channels[channel].payload = payload
            self._channels[channel].news.set()

    async def wait(self, channel: str, timeout: float) -> str | None:
        """See `Notifications.wait`; only the newest payload is kept."""
        listened = self._channels.setdefault(channel, _Channel())
        try:
            async with asyncio.timeout(timeout):
                await listened.news.wait()
        except TimeoutError:
            return None
        listened.news.clear()
        return listened.payload

    async def aclose(self) -> None:
        """Does nothing: there is nothing to close."""
