"""Keys that hold another kind of value than the store's own: damage that costs the key, and nothing else."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from recsys.clients.redis import checked
from recsys.observability.unreadable import note_unreadable

SOUND = """
local function sound(key, kind)
  -- A key of another kind is nothing that this store wrote: it makes room.
  local stored = redis.call('TYPE', key).ok
  if stored ~= kind and stored ~= 'none' then redis.call('DEL', key) end
end
"""
"""The beginning of a script that calls `sound(key, kind)` for each of its keys."""

CLEAR = (
    SOUND
    + """
-- KEYS; ARGV what they are to be
for _, key in ipairs(KEYS) do sound(key, ARGV[1]) end
return 1
"""
)
"""The script that makes room: it deletes those of the keys that are of another kind than its argument."""


def is_of_another_kind(replies: Sequence[Any]) -> bool:
    """Whether a key of theirs holds another kind of value than the command is for: nothing that this store wrote."""
    return any(map(_is_of_another_kind, replies))


def sound(replies: Sequence[Any], kind: str, name: str) -> list[Any]:
    """`checked`, but a key that holds another kind of value counts as an empty one. `kind` is for `note_unreadable`."""
    for reply in filter(_is_of_another_kind, replies):
        note_unreadable(kind, name, reply)
    return checked([[] if _is_of_another_kind(reply) else reply for reply in replies])


def _is_of_another_kind(reply: object) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE")
