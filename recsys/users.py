"""UserFeatures: all that is known of one user online, and the pure reducer that keeps it.

The reducer is the whole meaning of "counted exactly once": the stores only persist what it returns,
under compare-and-set on `revision`.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.messages.interaction import IMPRESSION, Erasure, Interaction, Merge, epoch_ms, event_key

Vector = NDArray[np.float32]
HISTORY_LENGTH = 200
REPEAT_WINDOW = 500
"""The newest interactions of a user, by event time, among which an event id that comes again is a repeat."""

PAST_BYTES = 16
IMPRESSIONS_LENGTH = 200
"""Impressions remembered per user, and never more than interactions."""

IDENTITY_CHANGES = 16
"""Remembered per user; only what another partition brings late is measured against them."""


class HistoryEntry(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """One remembered interaction; field order is sort order (event time, then event).

    Identity changes up to `since_ms` left it here: a merge brought it then, or it was read from a log that knew them.
    It is 0 for what the topic's order alone places. Millions pass through a consumer: the garbage collector, which
    has nothing to find in them, took a third of its time.
    """

    at_ms: int
    event: int
    item_id: str
    type: str
    since_ms: int = 0


class IdentityChange(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """All that a user had left: it was merged `into` another, or erased where that is empty."""

    at_ms: int
    into: str = ""

    def takes(self, since_ms: int) -> bool:
        """Return whether what has been with the user since `since_ms` leaves.

        The user's own (0) always does: it stood before this on the topic. What a merge brought shares no order
        with it, so there the times of the two decide; an erasure also takes what came at the same moment.
        """
        return since_ms < self.at_ms or (since_ms == self.at_ms and not self.into)


@dataclass(frozen=True, slots=True)
class PositionedMessage:
    """A message about one user, with its position on the topic: `partition` such as `interactions-3`."""

    partition: str
    offset: int
    message: Interaction | Erasure | Merge


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's record.

    `history` is oldest first and bounded; `offsets` is the highest applied offset per partition;
    `embeddings` holds one user-factor vector of shape (d,) per index version; `revision` counts
    writes and is 0 for a user who is not stored; `identity_changes` are the newest few, oldest first;
    `impressions` are a history of their own because they are many and no taste; `dedup_window` tells apart
    the events that the history has no room for, and knows no more of them: (time in ms, event) as
    two little-endian int64 each, oldest first.
    """

    user_id: str
    history: tuple[HistoryEntry, ...] = ()
    offsets: Mapping[str, int] = field(default_factory=dict)
    embeddings: Mapping[str, Vector] = field(default_factory=dict)
    revision: int = 0
    identity_changes: tuple[IdentityChange, ...] = ()
    impressions: tuple[HistoryEntry, ...] = ()
    dedup_window: bytes = b""


def history_entry(interaction: Interaction) -> HistoryEntry:
    """The interaction as it is remembered."""
    return HistoryEntry(
        epoch_ms(interaction.occurred_at), event_key(interaction.event_id), interaction.item_id, interaction.type
    )


def identity_change(message: Interaction | Erasure | Merge) -> IdentityChange:
    """The change that an erasure or merge makes to its user."""
    return IdentityChange(epoch_ms(message.occurred_at), message.into if isinstance(message, Merge) else "")


def bounded(entries: Iterable[HistoryEntry], length: int) -> tuple[HistoryEntry, ...]:
    """The newest `length` entries by event time, oldest first, each event once (`_ordered`)."""
    return tuple(_ordered(entries)[-length:])


def apply(
    features: UserFeatures,
    records: Sequence[PositionedMessage],
    length: int = HISTORY_LENGTH,
    window: int = REPEAT_WINDOW,
) -> UserFeatures:
    """`features` after `records` (in topic order), or `features` itself when all were applied before.

    A record at or below its partition's high-water offset is a redelivery and changes nothing. An event id
    among the newest `window` interactions is a producer's repeat: its offset counts, the event does so only once.
    Embeddings are dropped when the history changed, for the caller to fold in anew. Of a merge this is the
    half of the user that ends; `received` is the other, and must have been stored before.
    """
    offsets = dict(features.offsets)
    current, observed = features, list[HistoryEntry]()
    for record in records:
        if record.offset <= offsets.get(record.partition, -1):
            continue
        offsets[record.partition] = record.offset
        if isinstance(record.message, Interaction):
            observed.append(history_entry(record.message))
        else:
            current, observed = _without(current, identity_change(record.message)), []
    if offsets == features.offsets:
        return features
    return _changed(features, current, observed, offsets, length, window)


def new_events(features: UserFeatures, records: Sequence[PositionedMessage]) -> list[PositionedMessage]:
    """The interactions of `records` (in topic order) that `apply` counts: neither redelivered nor repeated.

    Impressions are left out: they count nowhere.
    """
    current, events = features, _events(features)
    offsets, new_records = dict(features.offsets), list[PositionedMessage]()
    for record in records:
        if record.offset <= offsets.get(record.partition, -1):
            continue
        offsets[record.partition] = record.offset
        if not isinstance(record.message, Interaction):
            current = _without(current, identity_change(record.message))
            events = _events(current)
        elif record.message.type != IMPRESSION and (event := event_key(record.message.event_id)) not in events:
            events.add(event)
            new_records.append(record)
    return new_records


def merged_in(
    features: UserFeatures,
    source: UserFeatures,
    identity_change: IdentityChange,
    at_ms: int,
    length: int = HISTORY_LENGTH,
) -> UserFeatures:
    """`features` with what `identity_change` took from `source`, merged at `at_ms` (later where it was passed on).

    Idempotent; `features` itself when there is nothing new in it.
    """
    theirs = (*source.history, *source.impressions)
    moved = [
        msgspec.structs.replace(entry, since_ms=at_ms) for entry in theirs if identity_change.takes(entry.since_ms)
    ]
    return _changed(features, features, moved, features.offsets, length)


def left_since(features: UserFeatures, at_ms: int) -> IdentityChange | None:
    """The first identity change that takes what came at `at_ms`; there may be one, because partitions run apart."""
    return next((change for change in features.identity_changes if change.takes(at_ms)), None)


def join(features: UserFeatures, other_features: UserFeatures, length: int = HISTORY_LENGTH) -> UserFeatures:
    """The union of two records of one user, each a prefix of the same topic: rebuild and live meet here.

    Associative, commutative and idempotent, so that the order in which they meet does not matter.
    """
    offsets = dict(features.offsets)
    for partition, offset in other_features.offsets.items():
        offsets[partition] = max(offset, offsets.get(partition, -1))
    entries = (*features.history, *features.impressions, *other_features.history, *other_features.impressions)
    identity_changes = _newest((*features.identity_changes, *other_features.identity_changes))
    window_rows = (
        _union(features.dedup_window, other_features.dedup_window, frozenset(), REPEAT_WINDOW - length)
        if other_features.dedup_window
        else features.dedup_window
    )
    nothing = UserFeatures(features.user_id, identity_changes=identity_changes, dedup_window=window_rows)
    return _changed(features, nothing, entries, offsets, length)


def _without(features: UserFeatures, identity_change: IdentityChange) -> UserFeatures:
    """With what `identity_change` took gone. The window of earlier events goes in any case."""
    return replace(
        features,
        history=tuple(entry for entry in features.history if not identity_change.takes(entry.since_ms)),
        impressions=tuple(entry for entry in features.impressions if not identity_change.takes(entry.since_ms)),
        identity_changes=_newest((*features.identity_changes, identity_change)),
        dedup_window=b"",
    )


def _changed(
    previous: UserFeatures,
    current: UserFeatures,
    observed: Sequence[HistoryEntry],
    offsets: Mapping[str, int],
    length: int,
    window: int = REPEAT_WINDOW,
) -> UserFeatures:
    """Return the record with `current` and `observed`, interactions and impressions each within their own bound.

    `previous` itself where that is the same.
    """
    observed_impressions = [entry for entry in observed if entry.type == IMPRESSION]
    done = [entry for entry in observed if entry.type != IMPRESSION]
    impressions = current.impressions
    if observed_impressions:
        impressions = bounded((*impressions, *observed_impressions), min(length, IMPRESSIONS_LENGTH))
    history = tuple(_ordered((*current.history, *done))) if done else current.history
    pushed_out, remembered, window_rows = history[:-length], history[-length:], current.dedup_window
    if (window_rows and observed) or pushed_out:
        window_rows = _extend_window(window_rows, observed, pushed_out, remembered, window - length)
    changed = UserFeatures(
        previous.user_id,
        remembered,
        offsets,
        # The same object where the history is the same, so that the comparison below looks at no vector.
        previous.embeddings if remembered == previous.history else {},
        previous.revision,
        current.identity_changes,
        impressions,
        window_rows,
    )
    return previous if changed == previous else changed


def _ordered(entries: Iterable[HistoryEntry]) -> list[HistoryEntry]:
    """Oldest first, each event once.

    The latest entry of an event wins: were it the earliest, an event that had left the history could
    come back with a later time, and the outcome would hang on when the history was cut.
    """
    ordered = sorted(entries)
    if len({entry.event for entry in ordered}) == len(ordered):
        return ordered
    once: dict[int, HistoryEntry] = {}
    for entry in ordered:
        once.pop(entry.event, None)
        once[entry.event] = entry
    return list(once.values())


def _extend_window(
    window_rows: bytes,
    observed: Sequence[HistoryEntry],
    pushed_out: Sequence[HistoryEntry],
    remembered: Sequence[HistoryEntry],
    length: int,
) -> bytes:
    """`window_rows` with those who were `pushed_out`, and without those whom `observed` brought back."""
    if length <= 0:
        return b""
    rows = _rows(window_rows)
    new = np.array([(entry.at_ms, entry.event) for entry in pushed_out], dtype="<i8").reshape(-1, 2)
    in_order = not (len(rows) and len(new)) or tuple(rows[-1]) < tuple(new[0])
    if in_order and not np.isin(rows[:, 1], [entry.event for entry in observed]).any():
        return (window_rows + new.tobytes())[-PAST_BYTES * length :]
    return _union(window_rows, new.tobytes(), {entry.event for entry in remembered}, length)


def _union(first: bytes, second: bytes, without: Set[int], length: int) -> bytes:
    """The newest `length` rows of two windows; of one event the latest counts."""
    if length <= 0:
        return b""
    latest: dict[int, int] = {}
    for at_ms, event in (*_rows(first).tolist(), *_rows(second).tolist()):
        latest[event] = max(at_ms, latest.get(event, at_ms))
    newest = sorted((at_ms, event) for event, at_ms in latest.items() if event not in without)[-length:]
    return np.array(newest, dtype="<i8").tobytes()


def _rows(window_rows: bytes) -> NDArray[np.int64]:
    return np.frombuffer(window_rows, dtype="<i8").reshape(-1, 2)


def _events(features: UserFeatures) -> set[int]:
    events = {entry.event for entry in features.history}
    if features.dedup_window:
        events.update(_rows(features.dedup_window)[:, 1].tolist())
    return events


def _newest(identity_changes: Iterable[IdentityChange]) -> tuple[IdentityChange, ...]:
    return tuple(sorted(set(identity_changes))[-IDENTITY_CHANGES:])
