"""Records of users for the contracts of the stores."""

from datetime import UTC, datetime

import numpy as np

from recsys.users import HistoryEntry, UserFeatures

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record(user_id: str = "ada", revision: int = 0, events: int = 3) -> UserFeatures:
    return UserFeatures(
        user_id,
        history=tuple(HistoryEntry(1000 + n, n - 2**62, f"item {n}", "view") for n in range(events)),
        offsets={"interactions-0": 5, "interactions-3": 2**60},
        embeddings={"v1": np.arange(4, dtype=np.float32), "v2": np.full(8, 0.5, dtype=np.float32)},
        revision=revision,
        dedup_window=np.array([[900, 2**62], [901, -1]], dtype="<i8").tobytes(),
    )


def same(left: UserFeatures, right: UserFeatures) -> bool:
    return (
        left.user_id,
        left.history,
        dict(left.offsets),
        left.revision,
        left.dedup_window,
        left.embeddings.keys(),
    ) == (
        right.user_id,
        right.history,
        dict(right.offsets),
        right.revision,
        right.dedup_window,
        right.embeddings.keys(),
    ) and all(np.array_equal(vector, right.embeddings[version]) for version, vector in left.embeddings.items())
