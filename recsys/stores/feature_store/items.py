"""The item catalogue on Redis or Valkey: merged by compare-and-set, with a feed of what changed."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from recsys.clients.redis import Exchange, ScriptCall, checked, sound
from recsys.errors import InvalidInput, StoreUnavailable
from recsys.messages.item import Item, hidden_item, merged, stored_item
from recsys.observability.unreadable import CATALOGUE_ENTRY, FEED, note_unreadable
from recsys.stores.feature_store import scripts
from recsys.stores.feature_store.keys import Keys
from recsys.stores.feature_store.protocol import ItemChanges

CHUNK = 500
"""Items per round trip: the server does nothing else during a script (about a millisecond)."""
ATTEMPTS = 20
LAST_REVISION = 2**53 - 1
"""The server's scores are floats: beyond it there is no next one."""

Updates = list[tuple[int, Item]]
"""Of one item, each with its place among all that are put."""

_encode = msgspec.json.Encoder().encode


def by_item(updates: Iterable[Item]) -> dict[str, Updates]:
    """The updates of each item by its id, with their positions."""
    items: defaultdict[str, Updates] = defaultdict(list)
    for position, update in enumerate(updates):
        items[update.item_id].append((position, update))
    return dict(items)


def applied(item: Item | None, updates: Updates) -> tuple[Item | None, dict[int, InvalidInput]]:
    """`item` after `updates`, and those that are refused by their place."""
    refused: dict[int, InvalidInput] = {}
    for position, update in updates:
        try:
            item = merged(item, update)
        except InvalidInput as error:
            refused[position] = error
    return item, refused


@dataclass(slots=True)
class Put:
    """The result of a put: whether anything changed, and what was refused, by position."""

    changed: bool = False
    refused: dict[int, InvalidInput] = field(default_factory=dict)

    def refuse(self, updates: Updates, refused: dict[int, InvalidInput]) -> None:
        """Record which of `updates` are `refused`, in place of what an earlier attempt recorded."""
        for position, _ in updates:
            self.refused.pop(position, None)
        self.refused |= refused


class ItemCatalogue:
    """Reads and merges items. Every method raises `StoreUnavailable`."""

    def __init__(self, exchange: Exchange, keys: Keys, ttl: float) -> None:
        self._exchange = exchange
        self._keys = keys
        self._ttl_ms = round(ttl * 1000)

    async def put(self, updates: Sequence[Item], *, whole: bool) -> Put:
        """Merge `updates` into the stored items, in chunks; see `FeatureStore.put_items` for `whole`."""
        put = Put()
        items = iter(by_item(updates).items())
        while chunk := dict(islice(items, CHUNK)):
            await self._put(chunk, put, whole=whole)
        return put

    async def get(self, item_ids: Sequence[str]) -> list[Item | None]:
        """The stored item per id, `None` where there is none, a hidden item where it cannot be read."""
        items: list[Item | None] = []
        for start in range(0, len(item_ids), CHUNK):
            chunk = item_ids[start : start + CHUNK]
            items += [_shown(item_id, raw) for item_id, raw in zip(chunk, await self._raw(chunk), strict=True)]
        return items

    async def changed(self, since: int, limit: int) -> ItemChanges:
        """Return changes after `since`; all of them where `since` is ahead of the store, which was lost then."""
        feed = self._keys.items_changed()
        reachable = ("ZREVRANGEBYSCORE", feed, LAST_REVISION, 0, "WITHSCORES", "LIMIT", 0, 1)
        (newest,) = sound(await self._exchange.retrying([reachable]), FEED, "items:changed")
        reached = int(float(newest[1])) if newest else 0
        lower = f"({since}" if 0 < since <= reached else "-inf"
        page = ("ZRANGEBYSCORE", feed, lower, "+inf", "WITHSCORES", "LIMIT", 0, limit + 1)
        (flat,) = sound(await self._exchange.retrying([page]), FEED, "items:changed")
        ids, scores = flat[0::2][:limit], [float(score) for score in flat[1::2][:limit]]
        items = await self.get([_named(member) for member in ids])
        revisions = [int(score) for score in scores if 0 < score <= LAST_REVISION]
        if len(revisions) < len(scores):
            # These come each time, until the next change of any item gives them a revision.
            note_unreadable(FEED, "items:changed", f"{len(scores) - len(revisions)} revisions that are none")
        return ItemChanges(
            revision=max(revisions, default=reached),
            items=[item for item in items if item is not None],
            complete=len(flat) // 2 <= limit,
        )

    async def _put(self, items: dict[str, Updates], put: Put, *, whole: bool) -> None:
        for _ in range(ATTEMPTS):
            writes: list[tuple[str, bytes | None, bytes]] = []
            for item_id, raw in zip(items, await self._raw(list(items)), strict=True):
                current = _read(item_id, raw)
                updates = items[item_id] if current or not raw else _replacing(items[item_id], whole=whole)
                new, refused = applied(current, updates)
                put.refuse(items[item_id], refused)
                if new is not None and new != current:
                    writes.append((item_id, raw, _encode(new)))
            if not writes:
                return
            (written,) = await self._exchange.scripted(scripts.PUT_ITEMS, [self._call(writes)])
            put.changed |= 1 in written
            items = {item_id: items[item_id] for (item_id, _, _), done in zip(writes, written, strict=True) if not done}
            if not items:
                return
        raise StoreUnavailable(f"{len(items)} items keep changing under this writer")

    def _call(self, writes: list[tuple[str, bytes | None, bytes]]) -> ScriptCall:
        keys = [self._keys.items_changed(), *(self._keys.item(item_id) for item_id, _, _ in writes)]
        arguments = [part for item_id, raw, new in writes for part in (raw or b"", new, item_id)]
        return keys, [self._ttl_ms, *arguments]

    async def _raw(self, item_ids: Sequence[str]) -> list[bytes | None]:
        if not item_ids:
            return []
        (values,) = checked(await self._exchange.retrying([("MGET", *map(self._keys.item, item_ids))]))
        entries: list[bytes | None] = values
        return entries


def _read(item_id: str, raw: bytes | None) -> Item | None:
    """`None` also for an entry that is there and cannot be read."""
    if not raw:
        return None
    try:
        return stored_item(raw)
    except ValueError as error:
        note_unreadable(CATALOGUE_ENTRY, item_id, error)
        return None


def _named(member: bytes) -> str:
    """The empty text, which no item is named, for what is none."""
    try:
        return member.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        note_unreadable(FEED, "items:changed", error)
        return ""


def _shown(item_id: str, raw: bytes | None) -> Item | None:
    return _read(item_id, raw) or (hidden_item(item_id) if raw else None)


def _replacing(updates: Updates, *, whole: bool) -> Updates:
    """What may take the place of an entry that cannot be read, from the first on that says whether to show the item."""
    first = next((at for at, (_, update) in enumerate(updates) if whole or update.available is not None), len(updates))
    return updates[first:]
