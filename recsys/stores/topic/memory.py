"""The interaction topic inside one process, for tests and experiments; nothing outlives it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from recsys.errors import TopicUnavailable
from recsys.settings import TopicSettings
from recsys.stores.topic.protocol import Delivered, Outgoing
from recsys.stores.topic.sharing import partition_of, share_of


@dataclass
class _Partition:
    name: str
    messages: list[Delivered] = field(default_factory=list)
    first: int = 0
    """Offset of `messages[0]`."""

    @property
    def end(self) -> int:
        """The offset of the next message."""
        return self.first + len(self.messages)

    def after(self, offset: int, limit: int) -> list[Delivered]:
        """Up to `limit` messages behind `offset`."""
        start = max(0, offset + 1 - self.first)
        return self.messages[start : start + limit]


@dataclass
class _Group:
    members: list["_Member"] = field(default_factory=list)
    committed: dict[str, int] = field(default_factory=dict)


class MemoryTopic:
    """An `InteractionTopic` whose partitions are lists. Keeps finished messages up to a tenth of `max_length`."""

    def __init__(self, settings: TopicSettings) -> None:
        self._settings = settings
        self._partitions = [_Partition(f"{settings.name}-{number}") for number in range(settings.partitions)]
        self._groups: dict[str, _Group] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["MemoryTopic"]:
        """See `InteractionTopic.producer`; the topic itself sends."""
        yield self

    @asynccontextmanager
    async def consumer(self, group: str) -> AsyncIterator["_Member"]:
        """See `InteractionTopic.consumer`."""
        shared = self._groups.setdefault(group, _Group())
        member = _Member(self, shared)
        shared.members.append(member)
        self._share(shared)
        try:
            yield member
        finally:
            shared.members.remove(member)
            self._share(shared)

    async def next_offsets(self) -> dict[str, int]:
        """See `InteractionTopic.next_offsets`."""
        return {partition.name: partition.end for partition in self._partitions}

    async def ping(self) -> None:
        """Does nothing: memory is always available."""

    async def send(self, messages: Sequence[Outgoing]) -> list[Exception | None]:
        """See `TopicProducer.send`; fails for a partition with `max_length` messages."""
        return [self._append(message) for message in messages]

    def _append(self, message: Outgoing) -> Exception | None:
        partition = self._partitions[partition_of(message.key, len(self._partitions))]
        if len(partition.messages) >= self._settings.max_length:
            return TopicUnavailable(f"{partition.name} is full: {self._settings.max_length} messages wait")
        now_ms = round(time.time() * 1000)
        headers = dict(message.headers)
        partition.messages.append(Delivered(partition.name, partition.end, message.key, message.value, headers, now_ms))
        self._wake()
        return None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _share(self, group: _Group) -> None:
        """Deal the partitions out anew; a new owner starts after what was committed."""
        dealt = iter(self._partitions)
        for rank, member in enumerate(group.members):
            share = share_of(rank, len(group.members), len(self._partitions))
            owned = {partition.name: partition for _, partition in zip(range(share), dealt, strict=False)}
            positions = {name: member.position[name] for name in owned if name in member.position}
            member.owned = owned
            member.position = {name: positions.get(name, group.committed.get(name, -1)) for name in owned}
        self._wake()

    def _trim(self, partition: _Partition) -> None:
        if len(partition.messages) <= self._settings.max_length // 10:
            return
        finished = min(group.committed.get(partition.name, -1) for group in self._groups.values())
        done = max(0, finished + 1 - partition.first)
        del partition.messages[:done]
        partition.first += done


class _Member:
    def __init__(self, topic: MemoryTopic, group: _Group) -> None:
        self._topic = topic
        self._group = group
        self._turn = 0
        self.owned: dict[str, _Partition] = {}
        self.position: dict[str, int] = {}

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        """See `TopicConsumer.poll`."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            changed = self._topic._changed
            if batch := self._take(limit):
                return batch
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                return []

    def _take(self, limit: int) -> list[Delivered]:
        self._turn += 1
        names = sorted(self.owned)
        start = self._turn % max(1, len(names))
        batch: list[Delivered] = []
        for name in names[start:] + names[:start]:
            messages = self.owned[name].after(self.position[name], limit - len(batch))
            if messages:
                self.position[name] = messages[-1].offset
                batch += messages
        return batch

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """See `TopicConsumer.commit`."""
        for name, offset in offsets.items():
            if name in self.owned and offset <= self.position[name]:
                self._group.committed[name] = max(offset, self._group.committed.get(name, -1))
                self._topic._trim(self.owned[name])

    async def lag(self) -> dict[str, int]:
        """See `TopicConsumer.lag`."""
        committed = self._group.committed
        return {
            name: partition.end - max(partition.first, committed.get(name, -1) + 1)
            for name, partition in self.owned.items()
        }

    async def next_offsets(self) -> dict[str, int]:
        """See `TopicConsumer.next_offsets`."""
        return {name: partition.end for name, partition in self.owned.items()}
