"""Checks the log's watermarks: a topic behind them would have its new messages taken for repeats."""

import asyncio
from collections.abc import Mapping

from millirec.checkup.finding import Finding, fine, note, wrong
from millirec.settings import Settings
from recsys.errors import RecsysError
from recsys.settings import TopicBackend
from recsys.stores.topic import open_interaction_topic


async def watermarks(settings: Settings) -> list[Finding]:
    """Check that the next message of each partition comes after the watermark of the log."""
    try:
        # The topic second: it may move on in between, and then only away from the watermark.
        reached = await asyncio.to_thread(_reached, settings)
        following = await open_interaction_topic(settings.topic, settings.store).next_offsets()
    except RecsysError:
        return [note("watermarks", "cannot be compared without the topic and the log", "", "watermark-ahead")]
    ahead = {
        partition: offset for partition, offset in reached.items() if following.get(partition, offset + 1) <= offset
    }
    if not ahead:
        return [fine("watermarks", "new messages lie beyond what the log has")]
    names = ", ".join(f"{partition} (next {following[partition]}, log {offset})" for partition, offset in ahead.items())
    text = f"the topic is behind the log, which new messages never reach, in {names}"
    todo = "It was emptied or made anew, or its server's clock went back. Give it another name (MILLIREC_TOPIC__NAME)"
    return [wrong("watermarks", text, f"{todo}{_commands(settings, ahead)}.", "watermark-ahead")]


def _reached(settings: Settings) -> Mapping[str, int]:
    """Return the last offset of each partition in the log; loads the table engine in the calling thread."""
    from recsys.stores.event_log import open_interaction_log

    return open_interaction_log(settings.log).watermarks()


def _commands(settings: Settings, ahead: Mapping[str, int]) -> str:
    """Return the commands that move a stream's next entry beyond the watermark, for the same topic name."""
    from recsys.stores.topic.stream_group import StreamKeys, milliseconds_of

    topic = settings.topic
    if topic.backend is not TopicBackend.REDIS:
        return ""
    keys = StreamKeys(settings.store.prefix, topic.name, topic.partitions)
    commands = [
        f"redis-cli XSETID {keys.stream(int(partition.rpartition('-')[2]))} {milliseconds_of(offset) + 1}-0"
        for partition, offset in ahead.items()
    ]
    return f"; or, if only the clock was ahead: {'; '.join(commands)}"
