"""A user's record as the fields of one hash.

h history (msgpack), o offsets (msgpack), r revision, d identity changes, s shown (msgpack), p deduplication window
(int64), where there are any, e:{version} embedding (float32, little-endian).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import isfinite

import msgspec
import numpy as np

from recsys.stores.topic.protocol import MAX_OFFSET
from recsys.stores.users.protocol import UNREADABLE
from recsys.users import PAST_BYTES, HistoryEntry, IdentityChange, UserFeatures, Vector

LATEST = 2**63 - 1
"""Of times and events: what is counted with numpy has no room for more."""
REVISION_DIGITS = 15
"""As many as a number in Lua has room for."""
HISTORY, OFFSETS, IDENTITY_CHANGES, SHOWN, PAST, REVISION, EMBEDDING = b"h", b"o", b"d", b"s", b"p", b"r", b"e:"

_encode = msgspec.msgpack.Encoder().encode
_serving_history = msgspec.msgpack.Decoder(tuple[HistoryEntry, ...]).decode
_decode_identity_changes = msgspec.msgpack.Decoder(tuple[IdentityChange, ...]).decode
_decode_offsets = msgspec.msgpack.Decoder(dict[str, int]).decode


def embedding_field(version: str) -> bytes:
    """The hash field of the embedding for index version `version`."""
    return EMBEDDING + version.encode()


def to_fields(features: UserFeatures) -> dict[bytes, bytes]:
    """Everything but the revision, which the store counts itself."""
    fields = {HISTORY: _encode(features.history), OFFSETS: _encode(features.offsets)}
    if features.identity_changes:
        fields[IDENTITY_CHANGES] = _encode(features.identity_changes)
    if features.impressions:
        fields[SHOWN] = _encode(features.impressions)
    if features.dedup_window:
        fields[PAST] = features.dedup_window
    for version, vector in features.embeddings.items():
        fields[embedding_field(version)] = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return fields


def from_fields(user_id: str, fields: Mapping[bytes, bytes | None]) -> UserFeatures:
    """The record in `fields`; empty with revision 0 where there is none. Raises `ValueError` on garbage.

    A broken embedding is left out instead: the reader folds it in anew.
    """
    revision = revision_of(fields)
    if revision == UNREADABLE:
        raise ValueError(f"revision {fields[REVISION]!r} is no number")
    if revision == 0:
        return UserFeatures(user_id)
    history, offsets, identity_changes, shown, past = map(fields.get, (HISTORY, OFFSETS, IDENTITY_CHANGES, SHOWN, PAST))
    if past is not None and len(past) % PAST_BYTES:
        raise ValueError(f"a past of {len(past)} bytes is no list of times and events")
    return UserFeatures(
        user_id,
        history=_decode_history(history) if history is not None else (),
        offsets=_offsets(offsets) if offsets is not None else {},
        identity_changes=_decode_identity_changes(identity_changes) if identity_changes is not None else (),
        impressions=_decode_history(shown) if shown is not None else (),
        dedup_window=past or b"",
        embeddings=dict(_embeddings(fields.items())),
        revision=revision,
    )


def salvaged(user_id: str, fields: Mapping[bytes, bytes | None]) -> UserFeatures:
    """What can still be read of a record that `from_fields` refuses: above all how the user left, so that what was
    erased stays away.

    Where the history is gone the offsets go as well: what the topic brings once more then counts again.
    """
    sound: dict[bytes, bytes | None] = {}
    for name in (HISTORY, OFFSETS, IDENTITY_CHANGES, SHOWN, PAST):
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            from_fields(user_id, {REVISION: b"1", name: fields.get(name)})
            sound[name] = fields.get(name)
    if HISTORY not in sound:
        sound.pop(OFFSETS, None)
    return replace(from_fields(user_id, {REVISION: b"1", **sound}), revision=revision_of(fields))


def from_reply(user_id: str, reply: Sequence[bytes | None], version: str | None, *, shown: bool) -> UserFeatures:
    """`from_fields` for the fields of a serving read, in their order (`serving_fields`)."""
    raw_revision, history = reply[0], reply[1]
    if raw_revision is None:
        return UserFeatures(user_id)
    if not raw_revision.isdigit():
        raise ValueError(f"revision {raw_revision!r} is no number")
    embeddings, was_shown = {}, reply[2] if shown else None
    if version is not None and (raw := reply[-1]) is not None:
        vector = _vector(raw)
        if vector is not None:
            embeddings[version] = vector
    return UserFeatures(
        user_id,
        history=_serving_history(history) if history is not None else (),
        impressions=_serving_history(was_shown) if was_shown is not None else (),
        embeddings=embeddings,
        revision=int(raw_revision),
    )


def serving_fields(version: str | None, *, shown: bool) -> list[bytes]:
    """The hash fields of a serving read, in the order that `from_reply` expects."""
    return [REVISION, HISTORY, *([SHOWN] if shown else []), *([] if version is None else [embedding_field(version)])]


def revision_of(fields: Mapping[bytes, bytes | None]) -> int:
    """The revision: 0 where there is none, `UNREADABLE` where it is no number (as the script SAVE sees it)."""
    revision = fields.get(REVISION)
    if revision is None:
        return 0
    return int(revision) if revision.isdigit() and len(revision) <= REVISION_DIGITS else UNREADABLE


def _decode_history(raw: bytes) -> tuple[HistoryEntry, ...]:
    history = _serving_history(raw)
    if any(max(entry.at_ms, entry.event, entry.since_ms) > LATEST for entry in history):
        raise ValueError("a time or an event of the history is no such number")
    return history


def _offsets(raw: bytes) -> dict[str, int]:
    offsets = _decode_offsets(raw)
    if any(offset > MAX_OFFSET for offset in offsets.values()):
        raise ValueError("an offset is beyond what any topic has")
    return offsets


def _embeddings(fields: Iterable[tuple[bytes, bytes | None]]) -> Iterable[tuple[str, Vector]]:
    for name, value in fields:
        if name.startswith(EMBEDDING) and value and (vector := _vector(value)) is not None:
            yield name[len(EMBEDDING) :].decode(), vector


def _vector(raw: bytes) -> Vector | None:
    """`None` for what is no vector of finite numbers; its length tells that faster than a look at each."""
    if not raw or len(raw) % 4:
        return None
    vector = np.frombuffer(raw, dtype="<f4")
    return vector if isfinite(vector @ vector) else None
