"""Interaction: one thing one user did with one item."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import xxhash

MAX_ID_LENGTH = 128
ID_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
TYPE_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"


def to_the_end(pattern: str) -> str:
    """`pattern`, which ends with `$`, for msgspec: in Python's words `$` also stands before a last newline."""
    return pattern + r"(?!\n)"


FUTURE_TOLERANCE = 300.0
"""Seconds an event may lie ahead of the clock before it is refused as a broken clock."""
FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_000
"""The years 1 to 9999."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH, pattern=to_the_end(ID_PATTERN))]
"""A bounded identifier without control characters."""

InteractionType = Annotated[str, msgspec.Meta(pattern=to_the_end(TYPE_PATTERN))]
"""Kind of an interaction: `view`, `click`, `add_to_cart`, `purchase`, `impression`, or a type of the shop's own."""

IMPRESSION = "impression"
"""The type that says an item was shown, and nothing about taste: no history and no training knows of it."""

DEFAULT_TYPE_WEIGHTS: Mapping[str, float] = {"view": 0.2, "click": 0.3, "add_to_cart": 0.6, "purchase": 1.0}
"""How much an interaction says about taste, by type, unless the training settings say otherwise."""

OTHER_TYPE_WEIGHT = 0.2
"""The same of a type that is not named there."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


MAX_EXTRA_DEPTH = 32
"""How deep what is kept in `extra` may be nested."""


class Interaction(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag="interaction",
    tag_field="kind",
):
    """One interaction, as it travels on the topic and rests in the log.

    `event_id` makes it idempotent, `occurred_at` (with time zone) orders it. `quantity` is how
    many units, `price` the price of one unit in the shop's currency. `session_id` and
    `recommendation_id` tie it to a visit and to the answer that caused it (attribution). `extra` is what its
    producer says beyond this.
    """

    # Unknown fields are refused, so that `wire` notices them and moves them into `extra`.

    event_id: Id
    user_id: Id
    item_id: Id
    type: InteractionType
    occurred_at: Timestamp
    quantity: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 1.0
    price: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    session_id: Id | None = None
    recommendation_id: Id | None = None
    extra: dict[str, Any] | None = None


class Erasure(msgspec.Struct, frozen=True, kw_only=True, tag="erasure", tag_field="kind"):
    """A user asked to be forgotten: everything of theirs before this record goes."""

    event_id: Id
    user_id: Id
    occurred_at: Timestamp


class Merge(msgspec.Struct, frozen=True, kw_only=True, tag="merge", tag_field="kind"):
    """Two ids turned out to be one user: everything of `user_id` before this record is `into`'s from now on.

    It is a message of the user that ends, and so stands behind everything that moves. Between users, whose
    messages share no order, `occurred_at` decides what came first.
    """

    event_id: Id
    user_id: Id
    into: Id
    occurred_at: Timestamp


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC; the unit of time inside the feature store."""
    return round(moment.timestamp() * 1000)


def from_epoch_ms(milliseconds: int) -> datetime:
    """Of what no calendar has (a damaged record may say anything), the first or the last that there is."""
    milliseconds = min(max(milliseconds, FIRST_MS), LAST_MS)
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def content_id(
    user_id: str,
    item_id: str,
    kind: str,
    occurred_at: datetime | None,
    quantity: float,
    price: float | None,
    session_id: str | None,
    recommendation_id: str | None,
) -> str:
    """An event id made of all that an interaction says (128-bit XXH3, as hex): who says the same means the same.

    As an import makes it (`ingest.batch.row_flow`), so that a file has no events over again that were posted.
    """
    moment = None if occurred_at is None else (occurred_at - EPOCH) // timedelta(microseconds=1)
    parts = (user_id, item_id, kind, moment, float(quantity), price, session_id, recommendation_id)
    return xxhash.xxh3_128_hexdigest("\x1f".join("" if part is None else str(part) for part in parts).encode())


def event_key(event_id: str) -> int:
    """A signed 64-bit XXH3 of the event id: eight bytes instead of up to 128 per remembered event."""
    return xxhash.xxh3_64_intdigest(event_id.encode()) - (1 << 63)
