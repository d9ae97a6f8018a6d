"""UserFeatures: all that is known of one user online, and the pure reducer that keeps it.

The reducer is the whole meaning of "counted exactly once": the stores only persist what it returns,
under compare-and-set on `revision`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.interaction import Erasure, Interaction, epoch_ms, event_key

Vector = NDArray[np.float32]
HISTORY_LENGTH = 200


class HistoryEntry(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One remembered interaction; field order is sort order (event time, then event)."""

    at_ms: int
    event: int
    item_id: str
    type: str


@dataclass(frozen=True, slots=True)
class Positioned:
    """An interaction or erasure with its place on the topic: `partition` such as `interactions-3`."""

    partition: str
    offset: int
    message: Interaction | Erasure


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's record.

    `history` is oldest first and bounded; `offsets` is the highest applied offset per partition;
    `embeddings` holds one user-factor vector of shape (d,) per index version; `revision` counts
    writes and is 0 for a user who is not stored.
    """

    user_id: str
    history: tuple[HistoryEntry, ...] = ()
    offsets: Mapping[str, int] = field(default_factory=dict)
    embeddings: Mapping[str, Vector] = field(default_factory=dict)
    revision: int = 0


def history_entry(interaction: Interaction) -> HistoryEntry:
    return HistoryEntry(
        epoch_ms(interaction.occurred_at), event_key(interaction.event_id), interaction.item_id, interaction.type
    )


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
    Embeddings are dropped when the history changed, for the caller to fold in anew.
    """
    offsets = dict(features.offsets)
    entries = list(features.history)
    fresh = False
    for record in records:
        if record.offset <= offsets.get(record.partition, -1):
            continue
        fresh = True
        offsets[record.partition] = record.offset
        if isinstance(record.message, Erasure):
            entries.clear()
        else:
            entries.append(history_entry(record.message))
    if not fresh:
        return features
    history = bounded(entries, length)
    embeddings = features.embeddings if history == features.history else {}
    return replace(features, history=history, offsets=offsets, embeddings=embeddings)


def join(features: UserFeatures, other: UserFeatures, length: int = HISTORY_LENGTH) -> UserFeatures:
    """The union of two records of one user, each a prefix of the same topic: rebuild and live meet here.

    Associative, commutative and idempotent, so that the order in which they meet does not matter.
    """
    history = bounded((*features.history, *other.history), length)
    offsets = dict(features.offsets)
    for partition, offset in other.offsets.items():
        offsets[partition] = max(offset, offsets.get(partition, -1))
    if history == features.history and offsets == features.offsets:
        return features
    embeddings = features.embeddings if history == features.history else {}
    return replace(features, history=history, offsets=offsets, embeddings=embeddings)
