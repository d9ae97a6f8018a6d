"""Notifications on Redis or Valkey: `{prefix}notify:{channel}`, a pub/sub channel."""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from recsys.clients.redis import Exchange, connection_pool, packed, translated
from recsys.settings import StoreSettings

HEALTH_CHECK_INTERVAL = 15.0


class RedisNotifications:
    """`Notifications` with one subscribed connection per channel that is listened to, opened anew after a loss.

    These connections are none of the exchange's pool: they are held for as long as somebody listens.
    """

    def __init__(self, exchange: Exchange, settings: StoreSettings) -> None:
        self._exchange = exchange
        self._prefix = settings.prefix
        self._timeout = settings.timeout
        self._client = Redis.from_pool(connection_pool(settings, HEALTH_CHECK_INTERVAL))
        self._listening: dict[str, PubSub] = {}

    async def send(self, channel: str, payload: str = "") -> None:
        """See `Notifications.send`."""
        await self._exchange.replies([packed("PUBLISH", self._name(channel), payload)])

    async def wait(self, channel: str, timeout: float) -> str | None:
        """See `Notifications.wait`; several payloads since the last call count as one, the newest."""
        try:
            with translated():
                return await self._wait(channel, timeout)
        except BaseException:
            await self._close(channel)
            raise

    async def aclose(self) -> None:
        """See `Notifications.aclose`."""
        for channel in list(self._listening):
            await self._close(channel)
        await self._client.aclose()

    async def _wait(self, channel: str, timeout: float) -> str | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if channel not in self._listening:
            async with asyncio.timeout(self._timeout):
                await self._subscribe(channel)
        listener = self._listening[channel]
        newest: bytes | None = None
        while True:
            # Several messages that came since the last call count as one: drain them.
            remaining = 0.0 if newest is not None else max(0.0, deadline - loop.time())
            message = await listener.get_message(timeout=min(remaining, HEALTH_CHECK_INTERVAL))
            if message is not None and message["type"] == "message":
                newest = message["data"]
            elif newest is not None or loop.time() >= deadline:
                return None if newest is None else newest.decode(errors="replace")

    async def _subscribe(self, channel: str) -> None:
        listener = self._client.pubsub()
        self._listening[channel] = listener
        await listener.subscribe(self._name(channel))
        # Its confirmation: from here on no notification is missed.
        await listener.get_message(timeout=self._timeout)

    async def _close(self, channel: str) -> None:
        listener = self._listening.pop(channel, None)
        if listener is not None:
            with suppress(RedisError, OSError):
                await listener.aclose()  # type: ignore[no-untyped-call]

    def _name(self, channel: str) -> bytes:
        return f"{self._prefix}notify:{channel}".encode()
