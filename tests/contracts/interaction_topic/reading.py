"""Putting messages on a topic and taking them off it, as the topic's tests do."""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from recsys.stores.topic import Delivered, InteractionTopic, Outgoing, TopicConsumer

WAIT = 20.0
"""Seconds a broker may take for what it should do at once."""


def messages(count: int, keys: int = 8, start: int = 0) -> list[Outgoing]:
    return [Outgoing(f"user-{number % keys}", b"%d" % number) for number in range(start, start + count)]


async def put(topic: InteractionTopic, outgoing: Sequence[Outgoing]) -> None:
    async with topic.producer() as producer:
        assert await producer.send(outgoing) == [None] * len(outgoing)


async def take(consumer: TopicConsumer, count: int, limit: int = 1000) -> list[Delivered]:
    taken: list[Delivered] = []
    deadline = time.monotonic() + WAIT
    while len(taken) < count:
        assert time.monotonic() < deadline, f"{len(taken)} of {count} messages came"
        taken += await consumer.poll(min(limit, count - len(taken)), 0.2)
    return taken


async def take_together(consumers: Sequence[TopicConsumer], count: int) -> list[list[Delivered]]:
    """Return the share of each member of the next `count` messages."""
    taken: list[list[Delivered]] = [[] for _ in consumers]
    deadline = time.monotonic() + WAIT
    while sum(map(len, taken)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, taken))} of {count} messages came"
        for its, consumer in zip(taken, consumers, strict=True):
            its.extend(await consumer.poll(count, 0.05))
    return taken


def ends(delivered: Iterable[Delivered]) -> dict[str, int]:
    """The last offset per partition."""
    return {message.partition: message.offset for message in delivered}


def by_key(delivered: Iterable[Delivered | Outgoing]) -> dict[str, list[bytes]]:
    values: defaultdict[str, list[bytes]] = defaultdict(list)
    for message in delivered:
        values[message.key].append(message.value)
    return dict(values)
