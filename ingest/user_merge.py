"""Both halves of a merge: the user that ends, and the one that receives, wherever that one has gone since."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.feature_store import FeatureStore
from recsys.user_features import IdentityChange, Positioned, UserFeatures, apply, identity_change, left_since, merged_in


@dataclass(frozen=True, slots=True)
class Halves:
    """The records to write, `into` first; `None` where nothing came to anybody."""

    source: UserFeatures
    into: UserFeatures | None


@dataclass(frozen=True, slots=True)
class _Ending:
    before: UserFeatures
    after: UserFeatures
    left: IdentityChange


async def halves(merges: Sequence[Positioned], store: FeatureStore, length: int) -> list[Halves]:
    """What becomes of each merge that was not applied before; no user ends twice in `merges`.

    Whether it was, the offset in the record of the user that ends says, and that is written last.
    Raises `StoreUnavailable`.
    """
    stored = await store.load([merge.message.user_id for merge in merges])
    endings = [
        _Ending(before, apply(before, [merge], length), identity_change(merge.message))
        for before, merge in zip(stored, merges, strict=True)
    ]
    new = [ending for ending in endings if ending.after is not ending.before]
    return [_halves(ending, *reached, length) for ending, reached in zip(new, await _follow(new, store), strict=True)]


def _halves(ending: _Ending, receiver: UserFeatures | None, at_ms: int, length: int) -> Halves:
    if receiver is None:
        return Halves(ending.after, None)
    if receiver.user_id == ending.after.user_id:
        return Halves(merged_in(ending.after, ending.before, ending.left, at_ms, length), None)
    into = merged_in(receiver, ending.before, ending.left, at_ms, length)
    return Halves(ending.after, None if into is receiver else into)


async def _follow(endings: Sequence[_Ending], store: FeatureStore) -> list[tuple[UserFeatures | None, int]]:
    """Per ending, who has it now (nobody, where it was erased) and since when.

    Partitions run apart, so whoever receives may have left already. It ends, because every step is to a
    identity change later than the last.
    """
    going = {place: ending.left for place, ending in enumerate(endings)}
    reached: dict[int, tuple[UserFeatures | None, int]] = {}
    while going:
        stored = {one.user_id: one for one in await store.load(sorted({left.into for left in going.values()}))}
        for place, left in list(going.items()):
            onward = left_since(stored[left.into], left.at_ms)
            if onward is not None and onward.into:
                going[place] = onward
            else:
                reached[place] = (stored[left.into] if onward is None else None, left.at_ms)
                del going[place]
    return [reached[place] for place in range(len(endings))]
