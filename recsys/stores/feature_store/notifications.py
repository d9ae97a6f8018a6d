"""Notifications over pub/sub: best effort, listeners poll as a safety net."""

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from recsys.clients.redis import connection_pool, translated
from recsys.settings import StoreSettings
from recsys.stores.feature_store.keys import Keys

HEALTH_CHECK_INTERVAL = 15.0


class Notifications:
    """One subscribed connection per channel that is listened to, opened anew after a loss."""

    def __init__(self, settings: StoreSettings) -> None:
        self._keys = Keys(settings.prefix)
        self._timeout = settings.timeout
        self._client = Redis.from_pool(connection_pool(settings, HEALTH_CHECK_INTERVAL))
        self._listening: dict[str, PubSub] = {}

    async def send(self, channel: str, payload: str) -> None:
        """Publish `payload` on `channel`. Raises `StoreUnavailable`."""
        with translated():
            async with asyncio.timeout(self._timeout):
                await self._client.publish(self._keys.notify(channel), payload)

    async def wait(self, channel: str, timeout: float) -> str | None:
        """The newest payload since the last call, or the next within `timeout` seconds."""
        try:
            with translated():
                return await self._wait(channel, timeout)
        except BaseException:
            await self._close(channel)
            raise

    async def aclose(self) -> None:
        """Close every subscription and the client."""
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
        await listener.subscribe(self._keys.notify(channel))
        # Its confirmation: from here on no notification is missed.
        await listener.get_message(timeout=self._timeout)

    async def _close(self, channel: str) -> None:
        listener = self._listening.pop(channel, None)
        if listener is not None:
            with suppress(RedisError, OSError):
                await listener.aclose()  # type: ignore[no-untyped-call]
