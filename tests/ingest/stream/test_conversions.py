"""Which interactions count for a canary, however often they come."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from ingest.stream.features import note_conversions
from recsys.experiments.rollout import Outcome, Rollout
from recsys.messages.interaction import Interaction
from recsys.models.alias_move import AliasMove
from recsys.stores.online import memory_stores
from recsys.users import PositionedMessage

MOVED = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROLLOUT = Rollout(share=0.1, salt="salt", started_at=MOVED, control="v1")
CANARY = AliasMove(alias="canary", version="v2", sequence=1, moved_at=MOVED, actor="ada", reason="try", rollout=ROLLOUT)
CLICK = Interaction(event_id="e", user_id="ada", item_id="i", type="click", occurred_at=MOVED, recommendation_id="r1")


def record(message: Interaction) -> PositionedMessage:
    return PositionedMessage("p-0", 1, message)


async def marked(canary: AliasMove | None, *messages: Interaction) -> set[int]:
    stores = memory_stores()
    for _ in range(2):
        await note_conversions(stores.outcomes, canary, [record(one) for one in messages])
    found = (await stores.outcomes.read(ROLLOUT.experiment)).get(Outcome.CONVERTED, b"")
    return set(np.flatnonzero(np.unpackbits(np.frombuffer(found, dtype=np.uint8))).tolist())


async def test_users_who_followed_an_answer_of_this_step_are_marked() -> None:
    others = [msgspec.structs.replace(CLICK, user_id=f"user-{n}") for n in range(5)]
    assert await marked(CANARY, CLICK, *others, CLICK) == {ROLLOUT.unit(one.user_id) for one in (CLICK, *others)}


async def test_what_came_before_the_step_or_from_no_answer_does_not_count() -> None:
    early = msgspec.structs.replace(CLICK, occurred_at=MOVED - timedelta(seconds=1))
    unasked = msgspec.structs.replace(CLICK, recommendation_id=None)
    assert await marked(CANARY, early, unasked) == set()


async def test_without_a_canary_or_with_one_put_there_by_hand_nothing_is_marked() -> None:
    assert await marked(None, CLICK) == set()
    assert await marked(msgspec.structs.replace(CANARY, rollout=None), CLICK) == set()
