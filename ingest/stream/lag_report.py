"""Every second, beside the batches: how far a group is behind, and whether its watermarks leave room for what comes."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from ingest.metrics import LAG, WATERMARK_AHEAD
from ingest.stream.flow import Group
from recsys.errors import Unavailable
from recsys.stores.topic import TopicConsumer

log = structlog.get_logger()

INTERVAL = 1.0


class LagReport:
    """`lag` is how many messages of this member's partitions are not committed yet."""

    def __init__(self, group: Group, consumer: TopicConsumer) -> None:
        self._group = group
        self._consumer = consumer
        self._reported: set[str] = set()
        self._ahead: set[str] = set()
        self.lag = 0

    async def run(self) -> None:
        """Measure the lag every second until cancelled; pauses while a system is unavailable."""
        while True:
            # The loop that applies batches waits for the same systems and reports it.
            with suppress(Unavailable):
                await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Measure lag and watermarks once. Raises `Unavailable`."""
        lags = await self._consumer.lag()
        for partition in self._reported - lags.keys():
            LAG.remove(self._group.name, partition)
            with suppress(KeyError):
                WATERMARK_AHEAD.remove(self._group.name, partition)
        for partition, lag in lags.items():
            LAG.labels(self._group.name, partition).set(lag)
        self._reported = set(lags)
        self.lag = sum(lags.values())
        # The topic second: if it moves on in between, then only away from the watermark.
        watermarks = await self._group.watermarks(lags)
        self._compare(watermarks, await self._consumer.next_offsets())

    def _compare(self, watermarks: Mapping[str, int], following: Mapping[str, int]) -> None:
        """One line per cause: when a partition falls behind its watermark, and when it has come past it."""
        ahead = {partition for partition, offset in following.items() if offset <= watermarks.get(partition, -1)}
        for partition in following:
            WATERMARK_AHEAD.labels(self._group.name, partition).set(partition in ahead)
        for partition in sorted(ahead):
            if partition not in self._ahead:
                log.error(
                    "the topic has fallen behind what this group has done: new messages are taken for repeats",
                    group=self._group.name,
                    partition=partition,
                    watermark=watermarks[partition],
                    next_offset=following[partition],
                    runbook="watermark-ahead",
                )
        for partition in sorted(self._ahead & (following.keys() - ahead)):
            log.warning("the topic has come past the watermark", group=self._group.name, partition=partition)
        self._ahead = ahead
