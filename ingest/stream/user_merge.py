"""Both halves of a merge: the user that ends, and the receiver, followed through later merges."""

from collections.abc import Sequence
from dataclasses import dataclass

from recsys.stores.users import UserStore
from recsys.users import IdentityChange, PositionedMessage, UserFeatures, apply, identity_change, left_since, merged_in


@dataclass(frozen=True, slots=True)
class Halves:
    """The records to write, `into` first; `None` where no receiver changes."""

    source: UserFeatures
    into: UserFeatures | None


@dataclass(frozen=True, slots=True)
class _Ending:
    previous: UserFeatures
    final: UserFeatures
    change: IdentityChange


async def halves(merges: Sequence[PositionedMessage], store: UserStore, length: int) -> list[Halves]:
    """Return the halves of each merge that was not applied before; no user ends twice in `merges`.

    A merge was applied if the record of the user that ends has its offset; that record is written last.
    Raises `StoreUnavailable`.
    """
    stored = await store.load([merge.message.user_id for merge in merges])
    endings = [
        _Ending(previous, apply(previous, [merge], length), identity_change(merge.message))
        for previous, merge in zip(stored, merges, strict=True)
    ]
    new = [ending for ending in endings if ending.final is not ending.previous]
    return [_halves(ending, *reached, length) for ending, reached in zip(new, await _follow(new, store), strict=True)]


def _halves(ending: _Ending, receiver: UserFeatures | None, at_ms: int, length: int) -> Halves:
    if receiver is None:
        return Halves(ending.final, None)
    if receiver.user_id == ending.final.user_id:
        return Halves(merged_in(ending.final, ending.previous, ending.change, at_ms, length), None)
    into = merged_in(receiver, ending.previous, ending.change, at_ms, length)
    return Halves(ending.final, None if into is receiver else into)


async def _follow(endings: Sequence[_Ending], store: UserStore) -> list[tuple[UserFeatures | None, int]]:
    """Return for each ending the final receiver (`None` where it was erased) and the time of the last step.

    Partitions are independent, so the receiver may have been merged already. The loop terminates because each
    identity change is later than the last.
    """
    going = {position: ending.change for position, ending in enumerate(endings)}
    reached: dict[int, tuple[UserFeatures | None, int]] = {}
    while going:
        stored = {
            features.user_id: features
            for features in await store.load(sorted({change.into for change in going.values()}))
        }
        for position, change in list(going.items()):
            onward = left_since(stored[change.into], change.at_ms)
            if onward is not None and onward.into:
                going[position] = onward
            else:
                reached[position] = (stored[change.into] if onward is None else None, change.at_ms)
                del going[position]
    return [reached[position] for position in range(len(endings))]
