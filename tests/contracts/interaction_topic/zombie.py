"""A consumer that reads a batch, and asks leave before it writes: to be stopped in between, as a zombie.

Says `read` when it is about to write, writes after the next line on standard input, and ends with `written`.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ingest.settings import IngestSettings
from ingest.stream.features import FeaturesGroup
from ingest.stream.flow import decode_batch
from ingest.stream.versions_in_service import VersionsInService
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.event_log import interaction_rows, open_interaction_log
from recsys.stores.online import Stores, open_stores
from recsys.stores.topic import Delivered, TopicConsumer, open_interaction_topic
from recsys.stores.users import UserStore
from recsys.users import UserFeatures


class RemoteControlledStore:
    """The real store of users, whose first save waits for a line."""

    def __init__(self, users: UserStore) -> None:
        self._users = users
        self.read, self.load = users.read, users.load
        self._asked = False

    async def save(self, features: Sequence[UserFeatures]) -> list[bool]:
        if not self._asked:
            self._asked = True
            sys.stdout.write("read\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.readline)
        return await self._users.save(features)


async def take(consumer: TopicConsumer, count: int) -> list[Delivered]:
    taken: list[Delivered] = []
    while len(taken) < count:
        taken += await consumer.poll(count - len(taken), 0.5)
    return taken


async def apply(consumer: TopicConsumer, taken: Sequence[Delivered], stores: Stores, log: Path) -> None:
    """As both groups do it, with one commit."""
    batch = decode_batch(taken, datetime.now(UTC), IngestSettings())
    versions = VersionsInService(RegistrySettings(), stores.notifications, 60.0)
    await FeaturesGroup(stores, versions, 200).apply(batch)
    open_interaction_log(LogSettings(path=str(log))).append(interaction_rows(batch.interactions), batch.offsets)
    await consumer.commit(batch.offsets)


async def main(topic: TopicSettings, settings: StoreSettings, log: Path, count: int) -> None:
    opened = open_stores(settings)
    stores = replace(opened, users=RemoteControlledStore(opened.users))
    async with open_interaction_topic(topic, settings).consumer("features") as consumer:
        await apply(consumer, await take(consumer, count), stores, log)
        sys.stdout.write("written\n")
        sys.stdout.flush()
    await stores.aclose()


if __name__ == "__main__":
    topic, url, prefix, log, count = sys.argv[1:]
    store = StoreSettings.model_validate({"url": url, "prefix": prefix, "timeout": 10})
    asyncio.run(main(TopicSettings.model_validate_json(topic), store, Path(log), int(count)))
