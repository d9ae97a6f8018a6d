"""Merging updates of items: what becomes of each item, and which updates have no room."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from recsys.errors import InvalidInput
from recsys.messages.item import Item, merged

Updates = list[tuple[int, Item]]
"""Of one item, each with its place among all that are put."""


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
