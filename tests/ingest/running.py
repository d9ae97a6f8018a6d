"""A whole ingest for a test: its settings, sending to it, and running its consumer groups."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from ingest.settings import IngestSettings
from ingest.stream.consumer import consume
from recsys.messages import wire
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.topic import Outgoing, open_interaction_topic


@dataclass(frozen=True)
class Ingest:
    """The settings of one ingest, and what a test does with it. Can be sent to another process."""

    topic: TopicSettings
    store: StoreSettings
    log: LogSettings
    registry: RegistrySettings
    ingest: IngestSettings

    async def send(self, messages: Sequence[wire.Message]) -> None:
        await self.send_raw([(wire.key_of(message), wire.encode(message)) for message in messages])

    async def send_raw(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Key and bytes of each; all acknowledged."""
        async with open_interaction_topic(self.topic, self.store).producer() as producer:
            outcomes = await producer.send([Outgoing(key, value) for key, value in messages])
        assert outcomes == [None] * len(messages)

    async def consume(self, groups: Sequence[str], stop: asyncio.Event) -> None:
        await consume(
            groups,
            topic=self.topic,
            store=self.store,
            log=self.log,
            registry=self.registry,
            ingest=self.ingest,
            stop=stop,
        )

    @asynccontextmanager
    async def consuming(self, *groups: str) -> AsyncIterator[asyncio.Task[None]]:
        """The groups run meanwhile, and end as they do on SIGTERM."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.consume(groups or ("features", "log"), stop))
        try:
            yield running
        finally:
            stop.set()
            async with asyncio.timeout(20):
                await running

    def on(self, store: StoreSettings) -> "Ingest":
        return replace(self, store=store)
