"""A member of a group in a process of its own, obeying lines on standard input: to be killed or stopped by tests.

`poll LIMIT` answers with the values delivered, as JSON; `commit` commits everything delivered so far.
"""

import asyncio
import sys

import msgspec

from recsys.settings import StoreSettings, TopicSettings
from recsys.stores.topic import open_interaction_topic


async def obey(topic: TopicSettings, store: StoreSettings, group: str) -> None:
    delivered: dict[str, int] = {}
    async with open_interaction_topic(topic, store).consumer(group) as consumer:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *rest = line.split()
            answer: list[str] = []
            if command == "poll":
                batch = await consumer.poll(int(rest[0]), 0.5)
                delivered.update({message.partition: message.offset for message in batch})
                answer = [message.value.decode() for message in batch]
            else:
                await consumer.commit(delivered)
            sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    topic, url, prefix, group = sys.argv[1:]
    store = StoreSettings.model_validate({"url": url, "prefix": prefix})
    asyncio.run(obey(TopicSettings.model_validate_json(topic), store, group))
