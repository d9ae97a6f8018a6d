"""UserFeatures: all that is known of one user online, and the pure reducer that keeps it.

The reducer is the whole meaning of "counted exactly once": the stores only persist what it returns,
under compare-and-set on `revision`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.interaction import IMPRESSION, Erasure, Interaction, Merge, epoch_ms, event_key

Vector = NDArray[np.float32]
HISTORY_LENGTH = 200
SHOWN_LENGTH = 200
"""Impressions remembered per user, and never more than interactions."""

DEPARTURES = 16
"""Remembered per user; only what another partition brings late is measured against them."""


class HistoryEntry(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One remembered interaction; field order is sort order (event time, then event).

    Departures up to `since_ms` left it here: a merge brought it then, or it was read from a log that knew them.
    It is 0 for what the topic's order alone places.
    """

    at_ms: int
    event: int
    item_id: str
    type: str
    since_ms: int = 0


class Departure(msgspec.Struct, frozen=True, array_like=True, order=True):
    """All that a user had left: it was merged `into` another, or erased where that is empty."""

    at_ms: int
    into: str = ""

    def takes(self, since_ms: int) -> bool:
        """Whether what has been with the user since `since_ms` leaves.

        The user's own (0) always does: it stood before this on the topic. What a merge brought shares no order
        with it, so there the times of the two decide; an erasure also takes what came at the same moment.
        """
        return since_ms < self.at_ms or (since_ms == self.at_ms and not self.into)


@dataclass(frozen=True, slots=True)
class Positioned:
    """What concerns one user, with its place on the topic: `partition` such as `interactions-3`."""

    partition: str
    offset: int
    message: Interaction | Erasure | Merge


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's record.

    `history` is oldest first and bounded; `offsets` is the highest applied offset per partition;
    `embeddings` holds one user-factor vector of shape (d,) per index version; `revision` counts
    writes and is 0 for a user who is not stored; `departures` are the newest few, oldest first;
    `shown` is the history of impressions, apart because they are many and no taste.
    """

    user_id: str
    history: tuple[HistoryEntry, ...] = ()
    offsets: Mapping[str, int] = field(default_factory=dict)
    embeddings: Mapping[str, Vector] = field(default_factory=dict)
    revision: int = 0
    departures: tuple[Departure, ...] = ()
    shown: tuple[HistoryEntry, ...] = ()


def history_entry(interaction: Interaction) -> HistoryEntry:
    return HistoryEntry(
        epoch_ms(interaction.occurred_at), event_key(interaction.event_id), interaction.item_id, interaction.type
    )


def departure(message: Interaction | Erasure | Merge) -> Departure:
    return Departure(epoch_ms(message.occurred_at), message.into if isinstance(message, Merge) else "")


def bounded(entries: Iterable[HistoryEntry], length: int) -> tuple[HistoryEntry, ...]:
    """The newest `length` entries by event time, oldest first, each event once.

    The latest telling of an event wins: were it the earliest, an event that had left the history could
    come back with a later time, and the outcome would hang on when the history was cut.
    """
    once: dict[int, HistoryEntry] = {}
    for entry in sorted(entries):
        once.pop(entry.event, None)
        once[entry.event] = entry
    return tuple(once.values())[-length:]


def apply(features: UserFeatures, records: Sequence[Positioned], length: int = HISTORY_LENGTH) -> UserFeatures:
    """`features` after `records` (in topic order), or `features` itself when all were applied before.

    A record at or below its partition's high-water offset is a redelivery and changes nothing. An event
    id that is still in the history is a producer's repeat: its offset counts, the event does so only once.
    Embeddings are dropped when the history changed, for the caller to fold in anew. Of a merge this is the
    half of the user that ends; `received` is the other, and must have been stored before.
    """
    offsets = dict(features.offsets)
    entries = [*features.history, *features.shown]
    departures = features.departures
    fresh = False
    for record in records:
        if record.offset <= offsets.get(record.partition, -1):
            continue
        fresh = True
        offsets[record.partition] = record.offset
        if isinstance(record.message, Interaction):
            entries.append(history_entry(record.message))
        else:
            left = departure(record.message)
            entries = [entry for entry in entries if not left.takes(entry.since_ms)]
            departures = _newest((*departures, left))
    if not fresh:
        return features
    return _changed(features, entries, length, offsets, departures)


def received(
    features: UserFeatures, source: UserFeatures, left: Departure, at_ms: int, length: int = HISTORY_LENGTH
) -> UserFeatures:
    """`features` with what `left` took from `source`, as merged at `at_ms` (later than `left` where it was passed on).

    Idempotent; `features` itself when there is nothing new in it.
    """
    theirs = (*source.history, *source.shown)
    moved = [msgspec.structs.replace(entry, since_ms=at_ms) for entry in theirs if left.takes(entry.since_ms)]
    entries = (*features.history, *features.shown, *moved)
    return _changed(features, entries, length, features.offsets, features.departures)


def left_since(features: UserFeatures, at_ms: int) -> Departure | None:
    """The first departure that takes what came at `at_ms`; there may be one, because partitions run apart."""
    return next((one for one in features.departures if one.takes(at_ms)), None)


def join(features: UserFeatures, other: UserFeatures, length: int = HISTORY_LENGTH) -> UserFeatures:
    """The union of two records of one user, each a prefix of the same topic: rebuild and live meet here.

    Associative, commutative and idempotent, so that the order in which they meet does not matter.
    """
    entries = (*features.history, *features.shown, *other.history, *other.shown)
    offsets = dict(features.offsets)
    for partition, offset in other.offsets.items():
        offsets[partition] = max(offset, offsets.get(partition, -1))
    return _changed(features, entries, length, offsets, _newest((*features.departures, *other.departures)))


def _changed(
    features: UserFeatures,
    entries: Sequence[HistoryEntry],
    length: int,
    offsets: Mapping[str, int],
    departures: tuple[Departure, ...],
) -> UserFeatures:
    """With what is remembered of `entries`, interactions and impressions each within their own bound."""
    history = bounded((entry for entry in entries if entry.type != IMPRESSION), length)
    shown = bounded((entry for entry in entries if entry.type == IMPRESSION), min(length, SHOWN_LENGTH))
    before = (features.history, features.offsets, features.departures, features.shown)
    if (history, offsets, departures, shown) == before:
        return features
    embeddings = features.embeddings if history == features.history else {}
    return replace(
        features, history=history, offsets=offsets, embeddings=embeddings, departures=departures, shown=shown
    )


def _newest(departures: Iterable[Departure]) -> tuple[Departure, ...]:
    return tuple(sorted(set(departures))[-DEPARTURES:])
