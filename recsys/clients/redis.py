"""Pipelined exchanges with the server under one deadline, its failures as `StoreUnavailable`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import cache, partial
from hashlib import sha1
from typing import Any

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from recsys.errors import StoreUnavailable, Unavailable
from recsys.settings import StoreSettings

RETRY_PAUSE = 0.02
GRACE = 0.001
LOST = (RedisConnectionError, OSError, RuntimeError)
"""A connection is gone; in uvloop's words a RuntimeError, when it was closed while it lay in the pool."""
Argument = str | bytes | int
Command = bytes
"""Packed: by `packed`, or by `packer`."""

Failures = Callable[[], AbstractContextManager[None]]
"""Translates errors."""
ScriptCall = tuple[Sequence[str | bytes], Sequence[Argument]]


@contextmanager
def translated(system: str = "the feature store", unavailable: type[Unavailable] = StoreUnavailable) -> Iterator[None]:
    """The client's errors and timeouts as `unavailable`."""
    try:
        yield
    except TimeoutError as error:
        raise unavailable(f"{system} did not answer in time") from error
    except (RedisError, *LOST) as error:
        raise unavailable(f"{system} cannot be used: {error}") from error


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` for a few milliseconds: an event loop that was held up looks at its sockets once more.

    Otherwise a pause of the loop itself would count against the server, whose reply lies there unread.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        timer = loop.call_later(seconds, lambda: scope.reschedule(loop.time() + GRACE))
        try:
            yield
        finally:
            timer.cancel()


def connection_pool(settings: StoreSettings, health_check_interval: float = 0) -> BlockingConnectionPool:
    """A pool that connects on first use. Its timeouts are upper bounds: the caller sets the deadline."""
    return BlockingConnectionPool.from_url(
        settings.url.get_secret_value(),
        max_connections=settings.connections,
        timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        socket_timeout=None,
        health_check_interval=health_check_interval,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


class Exchange:
    """Sends commands in one round trip on a connection of the pool; its failures say which `system` is `unavailable`.

    Works below the client's own pipeline, which costs 75 microseconds more per round trip (of 140). For that reason
    its one retry is written out: a retrying caller of a library costs 80 where nothing fails.
    """

    def __init__(
        self,
        settings: StoreSettings,
        system: str = "the feature store",
        unavailable: type[Unavailable] = StoreUnavailable,
    ) -> None:
        self.pool = connection_pool(settings)
        self.translated = partial(translated, system, unavailable)
        self._timeout = settings.timeout

    async def once(self, commands: Sequence[Command], timeout: float) -> list[Any]:
        """One reply per command, a refused one as its `ResponseError`. Raises `Unavailable`."""
        with self.translated():
            async with deadline(timeout):
                return await self._send(commands)

    async def retrying(self, commands: Sequence[Command], wait: float = 0.0) -> list[Any]:
        """One reply per command, sent once more when the connection was lost: for commands that may be sent twice.

        `wait`: seconds for which the server may block before it replies.
        """
        with self.translated():
            async with asyncio.timeout(self._timeout + wait):
                try:
                    return await self._send(commands)
                except LOST:
                    await asyncio.sleep(RETRY_PAUSE)
                    return await self._send(commands)

    async def replies(self, commands: Sequence[Command], wait: float = 0.0) -> list[Any]:
        """As `retrying`; raises `Unavailable` for the first refused command as well."""
        return checked(await self.retrying(commands, wait), self.translated)

    async def scripted(self, script: str, calls: Iterable[ScriptCall]) -> list[Any]:
        """Run `script` once per call (keys, arguments); it must be fit to be sent twice."""
        digest = _digest(script)
        commands = [packed("EVALSHA", digest, len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self.retrying(commands)
        unknown = [position for position, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            load = packed("SCRIPT", "LOAD", script)
            _, *retry_replies = await self.retrying([load, *(commands[position] for position in unknown)])
            for position, reply in zip(unknown, retry_replies, strict=True):
                replies[position] = reply
        return checked(replies, self.translated)

    async def ping(self) -> None:
        """Check that the server answers. Raises `Unavailable`."""
        await self.replies([packed("PING")])

    async def aclose(self) -> None:
        """Close every connection of the pool."""
        await self.pool.disconnect()

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        connection = await self.pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command([b"".join(commands)], check_health=False)
            return [await _reply(connection) for _ in commands]
        finally:
            await self.pool.release(connection)


def packer(name: bytes, arguments: Sequence[bytes]) -> Callable[[bytes], bytes]:
    """Packs many commands that differ in their key alone, twice as fast as hiredis does one by one."""
    head = b"*%d\r\n$%d\r\n%b\r\n$" % (2 + len(arguments), len(name), name)
    tail = b"".join([b"\r\n$%d\r\n%b" % (len(argument), argument) for argument in arguments]) + b"\r\n"
    return lambda key: b"%b%d\r\n%b%b" % (head, len(key), key, tail)


def packed(*arguments: Argument) -> bytes:
    """One command in the protocol's words."""
    command: bytes = pack_command(arguments)  # type: ignore[arg-type]  # its stub says a tuple of one
    return command


@cache
def _digest(script: str) -> str:
    return sha1(script.encode()).hexdigest()  # noqa: S324  # the server's name for it, not a safeguard


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def checked(replies: Sequence[Any], failures: Failures = translated) -> list[Any]:
    """`replies` as a list. Raises the first refusal, translated by `failures`."""
    with failures():
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    return list(replies)
