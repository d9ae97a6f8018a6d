"""What the stores hold, read for comparison with what they should hold."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from redis import Redis

from recsys.messages.interaction import Interaction, event_key
from recsys.recommender.trends import HOUR_MS
from recsys.settings import LogSettings
from recsys.stores.event_log import open_interaction_log
from recsys.stores.online import open_stores
from recsys.users import PositionedMessage, UserFeatures
from tests.chaos.invariants import Trends, folded
from tests.chaos.world import World

COLUMNS = ("partition", "offset", "event_id", "user_id", "item_id", "type", "occurred_at")
SCANNED = 1000


@dataclass(frozen=True, slots=True)
class FinalState:
    """`rows` are all there are in the log, `event_ids` what its readers see; `lives` are the TTLs of all keys in ms."""

    rows: list[PositionedMessage]
    event_ids: list[str]
    users: list[UserFeatures]
    trends: Trends
    lives: dict[str, int]


def positioned(log: Path) -> list[PositionedMessage]:
    """Every row, as it was written: nothing is hidden from whoever looks for what is there twice."""
    frame = pl.scan_delta(str(log / "interactions")).select(COLUMNS).collect()
    return [
        PositionedMessage(
            partition,
            offset,
            Interaction(event_id=event_id, user_id=user_id, item_id=item_id, type=kind, occurred_at=at),
        )
        for partition, offset, event_id, user_id, item_id, kind, at in frame.iter_rows()
    ]


def read_by_all(world: World) -> list[str]:
    log = open_interaction_log(LogSettings(path=str(world.folder / "log")))
    return log.read().select("event_id").collect().get_column("event_id").to_list()


async def settled(world: World) -> FinalState:
    rows = positioned(world.folder / "log")
    stores = open_stores(world.settings)
    try:
        user_ids = sorted({row.message.user_id for row in rows})
        users = await stores.users.load(user_ids)
        times = [row.message.occurred_at.timestamp() * 1000 for row in rows]
        hours = range(int(min(times, default=0) // HOUR_MS), int(max(times, default=0) // HOUR_MS) + 1)
        trends = {hour: weights for hour, weights in (await stores.trends.read(list(hours))).items() if weights}
    finally:
        await stores.aclose()
    return FinalState(rows, read_by_all(world), users, trends, lives(world))


async def remembered(world: World, user_id: str, event_id: str) -> bool:
    """Return whether the event stands in the user's record."""
    stores = open_stores(world.settings)
    try:
        (user,) = await stores.users.load([user_id])
    finally:
        await stores.aclose()
    return event_key(event_id) in {entry.event for entry in (*user.history, *user.impressions)}


def written(world: World, user_id: str) -> set[str]:
    """The user's events in the log."""
    frame = pl.scan_delta(str(world.folder / "log" / "interactions")).filter(user_id=user_id)
    return set(frame.select("event_id").collect().get_column("event_id"))


async def caught_up(world: World) -> bool:
    """Return whether the features are as far as the log, user by user and partition by partition."""
    stores = open_stores(world.settings)
    try:
        wanted = folded(positioned(world.folder / "log"), 1)
        stored = await stores.users.load(list(wanted))
    finally:
        await stores.aclose()
    return all(one.offsets == wanted[one.user_id].offsets for one in stored)


def lives(world: World) -> dict[str, int]:
    found: dict[str, int] = {}
    with Redis(unix_socket_path=str(world.store.socket)) as client:
        keys = list(client.scan_iter(count=SCANNED))
        for start in range(0, len(keys), SCANNED):
            some = keys[start : start + SCANNED]
            pipeline = client.pipeline(transaction=False)
            for key in some:
                pipeline.pttl(key)
            found.update(zip([key.decode() for key in some], pipeline.execute(), strict=True))
    return found
