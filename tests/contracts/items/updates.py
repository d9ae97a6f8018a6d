"""Updates of items for the contracts of the stores."""

from datetime import timedelta

from recsys.messages.item import Item
from tests.contracts.users.records import NOW


def item(item_id: str, minutes: int = 0, **fields: object) -> Item:
    return Item(item_id=item_id, updated_at=NOW + timedelta(minutes=minutes), **fields)  # type: ignore[arg-type]
