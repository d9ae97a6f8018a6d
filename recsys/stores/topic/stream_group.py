"""A member of a consumer group on Streams: it holds leases on partitions and reads those alone, in order.

Within a group every partition has one owner, and all owners read under one consumer name, so the entries
pending under that name are exactly what was delivered and not committed, to any member.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import structlog

from recsys.background import end
from recsys.clients.redis import Argument, Exchange, packed
from recsys.errors import TopicUnavailable
from recsys.settings import TopicSettings
from recsys.stores.topic import stream_scripts
from recsys.stores.topic.protocol import Delivered

log = structlog.get_logger(__name__)

HEADER = b"header:"
SEQUENCE_BITS = 20
MAX_POLL_INTERVAL = 300.0
"""Seconds without a poll or commit after which a member counts as hung and its leases run out."""


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The names of the topic's keys."""

    prefix: str
    name: str
    partitions: int

    def stream(self, partition: int) -> str:
        """The key of the partition's stream."""
        return f"{self.prefix}{self.name}:{partition}"

    def members(self, group: str) -> str:
        """The key of the set of the group's members."""
        return f"{self.prefix}{self.name}:members:{group}"

    def lease(self, partition: int, group: str) -> str:
        """The key of the group's lease on the partition."""
        return f"{self.prefix}{self.name}:{partition}:lease:{group}"

    def group(self, group: str) -> list[str]:
        """The key of the members, and then those of the leases by partition."""
        return [self.members(group), *(self.lease(partition, group) for partition in range(self.partitions))]


def offset_of(stream_id: bytes) -> int:
    """`milliseconds << 20 | sequence`. Raises `OverflowError` where the sequence does not fit."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    if int(sequence) >> SEQUENCE_BITS:
        raise OverflowError(f"stream id {stream_id.decode()} has no offset: its sequence is 2^{SEQUENCE_BITS} or more")
    return int(milliseconds) << SEQUENCE_BITS | int(sequence)


def milliseconds_of(offset: int) -> int:
    """The server's time of an offset, in milliseconds since 1970."""
    return offset >> SEQUENCE_BITS


def stream_id_of(offset: int) -> str:
    """The stream id of an offset; the inverse of `offset_of`."""
    return f"{milliseconds_of(offset)}-{offset & ((1 << SEQUENCE_BITS) - 1)}"


@dataclass(slots=True)
class _Owned:
    """A partition this member holds the lease of."""

    cursor: bytes = b"0-0"
    """The last entry taken; at first everything pending is taken again."""
    last: bytes = b"0-0"
    """The stream's last entry when it was last read; newer ones are news."""
    delivered: int = -1
    committed: int = -1
    draining: bool = False
    """To be given up as soon as everything delivered is committed; not read until then."""

    @property
    def idle(self) -> bool:
        """Whether everything delivered is committed."""
        return self.committed >= self.delivered


class StreamMember:
    """A `TopicConsumer` of a group on Streams."""

    def __init__(self, topic: TopicSettings, keys: StreamKeys, group: str, exchange: Exchange, timeout: float) -> None:
        self._topic = topic
        self._keys = keys
        self._group = group
        self._exchange = exchange
        self._pause = min(topic.lease / 20, timeout / 2)
        self._token = token_hex(8)
        self._lease_ms = max(1, round(topic.lease * 1000))
        self._owned: dict[int, _Owned] = {}
        self._share = -1
        self._turn = 0
        self._active_at = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._beat_now = asyncio.Event()

    @asynccontextmanager
    async def membership(self) -> AsyncIterator[None]:
        """Keeps the leases while it lasts and gives them back at its end."""
        self._active_at = asyncio.get_running_loop().time()
        beating = asyncio.create_task(self._keep_beating())
        try:
            yield
        finally:
            await end(beating)
            with suppress(TopicUnavailable):
                await self._run(stream_scripts.LEAVE, self._keys.group(self._group), [self._token])

    async def poll(self, limit: int, timeout: float) -> list[Delivered]:
        """See `TopicConsumer.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            while True:
                self._active_at = loop.time()
                if batch := await self._read(limit):
                    return batch
                if (remaining := deadline - loop.time()) <= 0:
                    return []
                await self._wait(remaining)
        except TopicUnavailable:
            self._share = -1  # the leases may have run out: ask first
            raise

    async def commit(self, offsets: Mapping[str, int]) -> None:
        """See `TopicConsumer.commit`; a partition whose lease is lost is left out by the script."""
        self._active_at = asyncio.get_running_loop().time()
        keys: list[str] = []
        ids: list[str] = []
        done: list[tuple[_Owned, int]] = []
        async with self._one_at_a_time:
            for partition, owned in self._owned.items():
                offset = offsets.get(self._name(partition))
                if offset is not None:
                    keys += (self._keys.stream(partition), self._keys.lease(partition, self._group))
                    ids.append(stream_id_of(offset))
                    done.append((owned, offset))
            if keys:
                keep = self._topic.max_length // 10
                await self._run(stream_scripts.COMMIT, keys, [self._token, self._group, keep, *ids])
        for owned, offset in done:
            owned.committed = max(owned.committed, offset)
            if owned.draining:
                self._beat_now.set()

    async def lag(self) -> dict[str, int]:
        """See `TopicConsumer.lag`."""
        partitions = sorted(self._owned)
        streams = [self._keys.stream(partition) for partition in partitions]
        lags = await self._run(stream_scripts.LAG, streams, [self._group])
        return {self._name(partition): int(lag) for partition, lag in zip(partitions, lags, strict=True)}

    async def next_offsets(self) -> dict[str, int]:
        """See `TopicConsumer.next_offsets`."""
        return await next_offsets(self._exchange, self._keys, sorted(self._owned))

    def _name(self, partition: int) -> str:
        return f"{self._topic.name}-{partition}"

    async def _read(self, limit: int) -> list[Delivered]:
        async with self._one_at_a_time:
            if self._share < 0:
                await self._beat()
            readable = sorted(partition for partition, owned in self._owned.items() if not owned.draining)
            if not readable:
                return []
            self._turn += 1
            start = self._turn % len(readable)
            turn = readable[start:] + readable[:start]
            keys = [key for p in turn for key in (self._keys.stream(p), self._keys.lease(p, self._group))]
            cursors = [self._owned[partition].cursor for partition in turn]
            retention = round(self._topic.retention * 1000)
            arguments: list[Argument] = [self._token, self._lease_ms, self._group, limit, retention, *cursors]
            replies = await self._run(stream_scripts.READ, keys, arguments)
            return [delivered for p, reply in zip(turn, replies, strict=True) for delivered in self._take(p, reply)]

    def _take(self, partition: int, reply: list[Any] | None) -> Iterator[Delivered]:
        if reply is None:
            del self._owned[partition]
            self._beat_now.set()
            return
        owned = self._owned[partition]
        entries, owned.last = reply
        for stream_id, fields in entries:
            owned.cursor = stream_id
            try:
                owned.delivered = offset_of(stream_id)
            except OverflowError as error:
                log.error("topic.entry_skipped", topic=self._topic.name, partition=partition, reason=str(error))
                continue
            if fields is not None:
                yield _delivered(self._name(partition), owned.delivered, fields)

    async def _wait(self, seconds: float) -> None:
        """Until an entry comes to a partition of ours, or it is time to look for another partition."""
        seconds = min(seconds, self._pause * 2)
        streams = {
            self._keys.stream(partition): owned.last for partition, owned in self._owned.items() if not owned.draining
        }
        if not streams:
            await asyncio.sleep(min(seconds, self._pause))
            return
        block_ms = max(1, round(seconds * 1000))
        command = packed("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *streams, *streams.values())
        await self._exchange.replies([command], block_ms / 1000)

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        (reply,) = await self._exchange.scripted(script, [(keys, arguments)])
        return reply

    async def _keep_beating(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            settled = self._share == len(self._owned)
            self._beat_now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._topic.lease / 3 if settled else self._pause):
                    await self._beat_now.wait()
            if self._share >= 0 and loop.time() - self._active_at < MAX_POLL_INTERVAL:
                with suppress(TopicUnavailable):
                    async with self._one_at_a_time:
                        await self._beat()

    async def _beat(self) -> None:
        """Renew the leases, take free ones up to this member's share, and give up what is more than that."""
        release: list[int] = []
        while True:
            arguments: list[Argument] = [self._token, self._lease_ms, *(partition + 1 for partition in release)]
            share, *leases = await self._run(stream_scripts.BEAT, self._keys.group(self._group), arguments)
            held = {lease - 1 for lease in leases}
            self._share = share
            self._owned = {partition: self._owned.get(partition) or _Owned() for partition in held}
            spare = sorted(held, key=lambda partition: (self._owned[partition].idle, partition))[share:]
            for partition, owned in self._owned.items():
                owned.draining = partition in spare
            release = [partition for partition in spare if self._owned[partition].idle]
            if not release:
                return


async def next_offsets(exchange: Exchange, keys: StreamKeys, partitions: Sequence[int]) -> dict[str, int]:
    """The next offset by partition name: ids are the server's time or follow the last, whichever is higher."""
    streams = [keys.stream(partition) for partition in partitions]
    ((now_ms, *last),) = await exchange.scripted(stream_scripts.NEXT, [(streams, ())])
    return {
        f"{keys.name}-{partition}": max(int(now_ms) << SEQUENCE_BITS, _after(stream_id))
        for partition, stream_id in zip(partitions, last, strict=True)
    }


def _after(stream_id: bytes) -> int:
    milliseconds, _, sequence = stream_id.partition(b"-")
    return (int(milliseconds) << SEQUENCE_BITS) + int(sequence) + 1


def _delivered(partition: str, offset: int, fields: list[bytes]) -> Delivered:
    """Fields that are missing are empty: such an entry is garbage, for the reader to refuse."""
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    headers = {
        name.removeprefix(HEADER).decode(errors="replace"): value
        for name, value in named.items()
        if name.startswith(HEADER)
    }
    key = named.get(b"key", b"").decode(errors="replace")
    return Delivered(partition, offset, key, named.get(b"value", b""), headers, offset >> SEQUENCE_BITS)
