"""A member killed in the middle of a batch, on every broker that notices."""

import pytest

from tests.contracts.interaction_topic.conftest import Bench
from tests.contracts.interaction_topic.members import member_process
from tests.contracts.interaction_topic.reading import by_key, messages, put, take


@pytest.mark.parametrize("bench", ["redis", "kafka-tansu", "kafka-real"], indirect=True)  # noida-db evicts nobody
async def test_what_a_killed_member_had_not_committed_passes_on_in_order(bench: Bench) -> None:
    topic = bench.topic()
    sent = messages(200, keys=20)
    await put(topic, sent)
    async with member_process(bench.settings(), bench.store) as member, topic.consumer("features") as heir:
        done = set(await member.poll(60))
        await member.ask("commit")
        await member.poll(50)
        member.process.kill()
        rest = await take(heir, 200 - len(done), limit=33)
        assert await heir.poll(10, 0.1) == []
    assert done.isdisjoint(message.value.decode() for message in rest)
    assert by_key(rest) == by_key(message for message in sent if message.value.decode() not in done)
