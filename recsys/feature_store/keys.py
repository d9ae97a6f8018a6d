"""What the feature store looks like inside: key names, and a user's record as the fields of one hash.

`{prefix}user:{user_id}`    hash: h history (msgpack), o offsets (msgpack), r revision,
                            d departures, s shown (msgpack), where there are any,
                            e:{version} embedding (float32, little-endian); one key, so that a script,
                            an erasure and a TTL each concern exactly one user
`{prefix}item:{item_id}`    string: the item as JSON
`{prefix}items:changed`     sorted set: item_id scored by the revision of its last change
`{prefix}trends`            hash: the highest offset counted, by partition
`{prefix}trend:{partition}:{hour}`  sorted set: item_id scored by its weight in that hour, in thousandths
`{prefix}nudge:{channel}`   pub/sub channel
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from recsys.feature_store.protocol import UNREADABLE
from recsys.user_features import Departure, HistoryEntry, UserFeatures, Vector

HISTORY, OFFSETS, DEPARTURES, SHOWN, REVISION, EMBEDDING = b"h", b"o", b"d", b"s", b"r", b"e:"

_encode = msgspec.msgpack.Encoder().encode
_decode_history = msgspec.msgpack.Decoder(tuple[HistoryEntry, ...]).decode
_decode_departures = msgspec.msgpack.Decoder(tuple[Departure, ...]).decode
_decode_offsets = msgspec.msgpack.Decoder(dict[str, int]).decode


@dataclass(frozen=True, slots=True)
class Keys:
    """Ids are any text at all, hence surrogatepass: an odd id is an unknown one, not an error."""

    prefix: str

    def user(self, user_id: str) -> bytes:
        return f"{self.prefix}user:{user_id}".encode("utf-8", "surrogatepass")

    def item(self, item_id: str) -> bytes:
        return f"{self.prefix}item:{item_id}".encode("utf-8", "surrogatepass")

    def items_changed(self) -> bytes:
        return f"{self.prefix}items:changed".encode()

    def trends(self) -> bytes:
        return f"{self.prefix}trends".encode()

    def trend(self, partition: str, hour: int) -> bytes:
        return f"{self.prefix}trend:{partition}:{hour}".encode()

    def nudge(self, channel: str) -> bytes:
        return f"{self.prefix}nudge:{channel}".encode()


def embedding_field(version: str) -> bytes:
    return EMBEDDING + version.encode()


def to_fields(features: UserFeatures) -> dict[bytes, bytes]:
    """Everything but the revision, which the store counts itself."""
    fields = {HISTORY: _encode(features.history), OFFSETS: _encode(features.offsets)}
    if features.departures:
        fields[DEPARTURES] = _encode(features.departures)
    if features.shown:
        fields[SHOWN] = _encode(features.shown)
    for version, vector in features.embeddings.items():
        fields[embedding_field(version)] = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return fields


def from_fields(user_id: str, fields: Mapping[bytes, bytes | None]) -> UserFeatures:
    """The record in `fields`; empty with revision 0 where there is none. Raises `ValueError` on garbage.

    A broken embedding is left out instead: whoever needs it folds it in anew.
    """
    revision = revision_of(fields)
    if revision == UNREADABLE:
        raise ValueError(f"revision {fields[REVISION]!r} is no number")
    if revision == 0:
        return UserFeatures(user_id)
    history, offsets, departures, shown = map(fields.get, (HISTORY, OFFSETS, DEPARTURES, SHOWN))
    return UserFeatures(
        user_id,
        history=_decode_history(history) if history is not None else (),
        offsets=_decode_offsets(offsets) if offsets is not None else {},
        departures=_decode_departures(departures) if departures is not None else (),
        shown=_decode_history(shown) if shown is not None else (),
        embeddings=dict(_embeddings(fields.items())),
        revision=revision,
    )


def revision_of(fields: Mapping[bytes, bytes | None]) -> int:
    """0 where there is none, `UNREADABLE` where it is no number (as the script SAVE sees it)."""
    revision = fields.get(REVISION)
    if revision is None:
        return 0
    return int(revision) if revision.isdigit() else UNREADABLE


def _embeddings(fields: Iterable[tuple[bytes, bytes | None]]) -> Iterable[tuple[str, Vector]]:
    for name, value in fields:
        if name.startswith(EMBEDDING) and value and len(value) % 4 == 0:
            vector = np.frombuffer(value, dtype="<f4")
            if np.isfinite(vector).all():
                yield name[len(EMBEDDING) :].decode(), vector
