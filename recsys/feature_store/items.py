"""The item catalogue on Redis or Valkey: merged by compare-and-set, with a feed of what changed."""

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec
import structlog

from recsys.errors import StoreUnavailable
from recsys.feature_store import scripts
from recsys.feature_store.exchange import Exchange, ScriptCall, checked
from recsys.feature_store.keys import Keys
from recsys.feature_store.protocol import ItemChanges
from recsys.item import Item

log = structlog.get_logger()

CHUNK = 500
"""Items per round trip: the server does nothing else during a script (about a millisecond)."""
ATTEMPTS = 20

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Item).decode


def merged(known: Item | None, update: Item) -> Item:
    """The newer `updated_at` wins, whichever came first; of two at one time the later to come."""
    if known is None:
        return update
    return known.updated_by(update) if update.updated_at >= known.updated_at else update.updated_by(known)


def in_one(updates: Iterable[Item]) -> dict[str, Item]:
    """Every item once, by id, its updates merged."""
    items: dict[str, Item] = {}
    for update in updates:
        items[update.item_id] = merged(items.get(update.item_id), update)
    return items


class ItemCatalogue:
    def __init__(self, exchange: Exchange, keys: Keys, ttl: float) -> None:
        self._exchange = exchange
        self._keys = keys
        self._ttl_ms = round(ttl * 1000)

    async def put(self, updates: Sequence[Item]) -> bool:
        """True when anything changed."""
        changed = False
        updated = iter(in_one(updates).values())
        while chunk := list(islice(updated, CHUNK)):
            changed |= await self._put(chunk)
        return changed

    async def get(self, item_ids: Sequence[str]) -> list[Item | None]:
        found: list[Item | None] = []
        for start in range(0, len(item_ids), CHUNK):
            chunk = item_ids[start : start + CHUNK]
            found += [_read(item_id, raw) for item_id, raw in zip(chunk, await self._raw(chunk), strict=True)]
        return found

    async def changed(self, since: int, limit: int) -> ItemChanges:
        """A `since` that the store has not reached yet is of a store that was lost: everything again."""
        feed = self._keys.items_changed()
        replies = await self._exchange.retrying([("ZREVRANGE", feed, 0, 0, "WITHSCORES")])
        (newest,) = checked(replies)
        reached = int(newest[1]) if newest else 0
        after = since if since <= reached else 0
        page = ("ZRANGEBYSCORE", feed, f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, limit + 1)
        (flat,) = checked(await self._exchange.retrying([page]))
        ids, scores = flat[0::2][:limit], flat[1::2][:limit]
        items = await self.get([item_id.decode("utf-8", "surrogatepass") for item_id in ids])
        return ItemChanges(
            revision=int(scores[-1]) if scores else reached,
            items=[item for item in items if item is not None],
            complete=len(flat) // 2 <= limit,
        )

    async def _put(self, updates: list[Item]) -> bool:
        changed = False
        for _ in range(ATTEMPTS):
            before = await self._raw([item.item_id for item in updates])
            writes = [
                (update, raw, _encode(new))
                for update, raw in zip(updates, before, strict=True)
                if (new := merged(known := _read(update.item_id, raw), update)) != known
            ]
            if not writes:
                return changed
            (written,) = await self._exchange.scripted(scripts.PUT_ITEMS, [self._call(writes)])
            changed |= 1 in written
            updates = [update for (update, _, _), done in zip(writes, written, strict=True) if not done]
            if not updates:
                return changed
        raise StoreUnavailable(f"{len(updates)} items keep changing under this writer")

    def _call(self, writes: list[tuple[Item, bytes | None, bytes]]) -> ScriptCall:
        keys = [self._keys.items_changed(), *(self._keys.item(update.item_id) for update, _, _ in writes)]
        arguments = [part for update, raw, new in writes for part in (raw or b"", new, update.item_id)]
        return keys, [self._ttl_ms, *arguments]

    async def _raw(self, item_ids: Sequence[str]) -> list[bytes | None]:
        if not item_ids:
            return []
        (values,) = checked(await self._exchange.retrying([("MGET", *map(self._keys.item, item_ids))]))
        found: list[bytes | None] = values
        return found


def _read(item_id: str, raw: bytes | None) -> Item | None:
    """An entry that cannot be read is as good as none, and the next update replaces it."""
    if not raw:
        return None
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("catalogue entry cannot be read", item_id=item_id, error=str(error))
        return None
