"""InteractionProducer: puts messages on the topic and waits; connects when it can, so that a topic that
is down keeps nobody from starting or from recommending."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from recsys.errors import TopicUnavailable
from recsys.interaction_topic import InteractionTopic, Outgoing, TopicProducer
from recsys.wire import Message, encode, key_of

log = structlog.get_logger()


class InteractionProducer:
    def __init__(self, topic: InteractionTopic) -> None:
        self._topic = topic
        self._stack = AsyncExitStack()
        self._producer: TopicProducer | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> TopicProducer:
        """The open producer. Raises `TopicUnavailable` when it cannot be opened now."""
        async with self._connecting:
            if self._producer is None:
                self._producer = await self._stack.enter_async_context(self._topic.producer())
            return self._producer

    async def send(self, messages: Sequence[Message]) -> list[Exception | None]:
        """One entry per message: `None` once acknowledged, else why not."""
        try:
            producer = await self.connect()
        except TopicUnavailable as error:
            log.warning("the topic cannot be reached", error=str(error))
            return [error] * len(messages)
        return await producer.send([Outgoing(key_of(one), encode(one)) for one in messages])

    async def aclose(self) -> None:
        await self._stack.aclose()
