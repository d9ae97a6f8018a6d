"""Kafka clients: common options, translated errors, and a start in the background."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from recsys.errors import TopicUnavailable
from recsys.settings import KafkaSettings, TopicSettings

REQUEST_TIMEOUT = 10.0
"""Seconds after which a broker that does not answer counts as gone."""
METADATA_PAUSE = 0.5
CLOSE_TIMEOUT = 3.0
"""Seconds that messages still unacknowledged, and leaving the group, may take at the end."""


@contextmanager
def translated() -> Iterator[None]:
    """The client's errors and timeouts as `TopicUnavailable`."""
    try:
        yield
    except TimeoutError as error:
        raise TopicUnavailable("Kafka did not answer in time") from error
    except (KafkaError, OSError) as error:
        raise TopicUnavailable(f"Kafka cannot be used: {error}") from error


@asynccontextmanager
async def within(seconds: float = REQUEST_TIMEOUT) -> AsyncIterator[None]:
    """A call of Kafka under a deadline, with translated errors. Raises `TopicUnavailable`."""
    with translated():
        async with asyncio.timeout(seconds):
            yield


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments of every aiokafka client. Raises `OSError` where a certificate cannot be read."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": round(REQUEST_TIMEOUT * 1000),
    }
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        password = kafka.sasl_password
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = None if password is None else password.get_secret_value()
    return options


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    if kafka.ssl_cert_file is not None:
        context.load_cert_chain(kafka.ssl_cert_file, kafka.ssl_key_file)
    return context


async def ping(settings: TopicSettings) -> None:
    """Connect and disconnect. Raises `TopicUnavailable` where no broker answers."""
    async with within(settings.send_timeout):
        admin = AIOKafkaAdminClient(**client_options(settings.kafka))
        try:
            await admin.start()
        finally:
            await admin.close()


async def create_topic(settings: TopicSettings) -> None:
    """Create the topic where it is missing; needs no right to create where it is there."""
    admin = AIOKafkaAdminClient(**client_options(settings.kafka))
    try:
        await admin.start()
        if settings.name in await admin.list_topics():
            return
        factor = settings.kafka.replication_factor
        # aiokafka lets -1, the broker's default, through only where replicas are assigned: none, in an empty mapping
        topic = NewTopic(settings.name, settings.partitions, factor, {} if factor == -1 else None)
        response = await admin.create_topics([topic])
        for _, code, *_ in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise for_code(code)(f"topic {settings.name} could not be created")
    finally:
        await admin.close()


def paced(client: AIOKafkaClient) -> None:
    """Pause after each failed refresh of the metadata.

    aiokafka asks again at once: with every broker down it would keep a processor and the log busy
    (thousands of attempts a second, as seen with 0.14).
    """
    update = client._metadata_update

    async def update_and_pause(*args: Any) -> bool:
        """Refresh the metadata, and pause where that failed; whether it succeeded."""
        updated: bool = await update(*args)
        if not updated:
            await asyncio.sleep(METADATA_PAUSE)
        return updated

    client._metadata_update = update_and_pause


class Startable(Protocol):
    """A client with a `start`."""

    async def start(self) -> None:
        """Connect."""
        ...


ClientT = TypeVar("ClientT", bound=Startable)


class Starting(Generic[ClientT]):
    """A client that starts in the background when first asked for, and anew after it failed.

    Starting may take longer than a caller can wait (a broker that is down, a group that rebalances):
    the caller gives up, the start goes on, and the next caller finds it done.
    """

    def __init__(
        self, settings: TopicSettings, build: Callable[[], ClientT], stop: Callable[[ClientT], Awaitable[None]]
    ) -> None:
        self._settings = settings
        self._build = build
        self._stop = stop
        self._starting: asyncio.Task[ClientT] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._created = False

    async def get(self) -> ClientT:
        """Cancel or time out at will. Raises `TopicUnavailable` where the start failed."""
        if self._starting is None or _failed(self._starting):
            self._starting = asyncio.create_task(self._start())
        with translated():
            return await asyncio.shield(self._starting)

    @property
    def started(self) -> ClientT | None:
        """The client, if its start is over and went well."""
        starting = self._starting
        return None if starting is None or not starting.done() or _failed(starting) else starting.result()

    async def _start(self) -> ClientT:
        if not self._created:
            await create_topic(self._settings)
            self._created = True
        client = self._build()
        try:
            await client.start()
        except BaseException:
            await self._stop(client)
            raise
        return client

    def discard(self) -> None:
        """Close the present client; the next `get` starts another."""
        if self._starting is not None:
            closing = asyncio.create_task(self._close(self._starting))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._starting = None

    async def _close(self, starting: asyncio.Task[ClientT]) -> None:
        starting.cancel()
        with suppress(asyncio.CancelledError, KafkaError, OSError):
            await self._stop(await starting)

    async def aclose(self) -> None:
        """Close the client, and wait for every client that is being closed."""
        self.discard()
        await asyncio.gather(*self._closing)


def _failed(task: "asyncio.Task[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def stop_producer(client: AIOKafkaProducer) -> None:
    """Flush for a while, then drop what is not acknowledged: an idempotent producer would wait without end."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.flush()
    except TimeoutError:
        client._closed = True
        await client._sender.close()
        await client.client.close()
    else:
        await client.stop()


async def stop_consumer(client: AIOKafkaConsumer) -> None:
    """Leave the group; hang up where the group is stuck in a rebalance."""
    stopping = asyncio.create_task(client.stop())
    await asyncio.wait([stopping], timeout=CLOSE_TIMEOUT)
    await client._client.close()
    await stopping
