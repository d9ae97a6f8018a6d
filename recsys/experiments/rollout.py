"""Rollout: how a version that is not live yet meets real requests, and which users it answers.

What came of it is remembered per unit: a user's number below `UNITS`, the same throughout one rollout. So an outcome
is one bitmap, a mark that comes twice changes nothing, and the first `share` of the places are the treated users.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
import xxhash

from recsys.errors import InvalidInput
from recsys.messages.interaction import IMPRESSION, Interaction

UNITS = 1 << 20
"""Places for users: 128 kB per outcome. Users who share one count as one, which costs certainty and no validity."""
STEPS = (0.01, 0.05, 0.25, 1.0)
STEP_SECONDS = 3600.0
SLOW_SECONDS = 0.05

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
MAX_STEPS = 16
Steps = Annotated[tuple[Share, ...], msgspec.Meta(min_length=1, max_length=MAX_STEPS)]


class Outcome(StrEnum):
    """Outcome of a user in one step of a rollout."""

    EXPOSED = "exposed"
    """Got an answer."""
    CONVERTED = "converted"
    """Did something that named an answer it came from."""
    FAILED = "failed"
    """The version could not answer; the live one did."""
    FALLBACK = "fallback"
    """Got what is trending or popular, or an answer without their features."""
    SLOW = "slow"
    """Waited longer than `SLOW_SECONDS`."""


class Variant(StrEnum):
    """The arm of a rollout that answers a user, while a canary runs."""

    CANARY = "canary"
    CONTROL = "control"


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a move of `canary` or `shadow`. A move to the same version with another `share` is the next step.

    `control` is the version that was live at the start; `converts` the types of interaction that count as success
    (none: every one that names the answer it came from).
    """

    share: Share
    salt: str
    started_at: datetime
    control: str
    steps: Steps = (1.0,)
    step_seconds: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = STEP_SECONDS
    converts: tuple[str, ...] = ()

    @property
    def experiment(self) -> str:
        """The name that outcomes are kept under: each step has other users and is compared by itself."""
        return f"{self.salt}:{self.share:g}"

    @property
    def boundary(self) -> int:
        """The first unit that is not treated."""
        return round(self.share * UNITS)

    def unit(self, user_id: str) -> int:
        """The user's unit: evenly spread, and independent of that in another rollout."""
        digest = xxhash.xxh3_64_intdigest(f"{self.salt}\n{user_id}".encode("utf-8", "surrogatepass"))
        return digest % UNITS

    def counts(self, interaction: Interaction) -> bool:
        """Return whether the interaction is a success of the answers of this rollout."""
        if self.converts:
            return interaction.type in self.converts
        return interaction.recommendation_id is not None and interaction.type != IMPRESSION


def checked_steps(steps: Sequence[float]) -> tuple[float, ...]:
    """Ascending shares up to 1. Raises `InvalidInput` naming `steps`."""
    shares = tuple(steps)
    if not shares or any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares)):
        raise InvalidInput("steps", "are ascending shares of the users, above 0 and up to 1, such as 0.01, 0.1, 1")
    whole = shares if shares[-1] == 1.0 else (*shares, 1.0)
    if len(whole) > MAX_STEPS:
        raise InvalidInput("steps", f"are {len(whole)} with the last, 1: {MAX_STEPS} are allowed")
    return whole


def next_share(share: float, steps: Sequence[float]) -> float:
    """The step after `share`, or the last one."""
    return next((step for step in steps if step > share), steps[-1])
