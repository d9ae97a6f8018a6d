"""The contract of the store of outcomes, on every backend: bitmaps of the units of a rollout."""

import numpy as np
from redis.asyncio import Redis

from recsys.experiments.canary import counts_of
from recsys.experiments.rollout import UNITS, Outcome
from recsys.settings import StoreSettings
from recsys.stores.online import Stores
from recsys.stores.outcomes import OUTCOME_TTL


def units_of(bitmap: bytes) -> list[int]:
    return np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8))).tolist()


async def test_marks_are_kept_once_per_unit_and_outcome(stores: Stores) -> None:
    many = range(0, UNITS, UNITS // 2500)
    await stores.outcomes.record("e1", {Outcome.EXPOSED: many, Outcome.SLOW: [UNITS - 1]})
    await stores.outcomes.record("e1", {Outcome.EXPOSED: [0, 3], Outcome.FAILED: []})
    found = await stores.outcomes.read("e1")
    assert units_of(found[Outcome.EXPOSED]) == sorted({*many, 3})
    assert units_of(found[Outcome.SLOW]) == [UNITS - 1]
    assert not any(found.get(Outcome.CONVERTED, b""))
    assert await stores.outcomes.read("e2") == {}


async def test_outcomes_expire(redis_stores: Stores, store_settings: StoreSettings, server: Redis) -> None:
    await redis_stores.outcomes.record("e1", {Outcome.EXPOSED: [1]})
    keys = await server.keys(f"{store_settings.prefix}*")
    assert len(keys) == 1
    for key in keys:
        assert OUTCOME_TTL - 60 < await server.ttl(key) <= OUTCOME_TTL


def test_a_bitmap_of_another_length_counts_what_it_has() -> None:
    whole = np.packbits(np.ones(UNITS, np.uint8)).tobytes()
    for exposed in (whole, whole + b"\xff" * 9):
        counts = counts_of({Outcome.EXPOSED: exposed, Outcome.SLOW: b"\x80"}, 10)
        assert counts[Outcome.EXPOSED] == (UNITS - 10, 10)
