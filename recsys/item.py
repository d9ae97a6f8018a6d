"""Item: what is recommended, and what a frontend shows of it."""

from typing import Annotated

import msgspec

from recsys.interaction import Id, Timestamp

PropertyValue = str | float | bool | list[str]
MAX_PROPERTIES = 64
Text = Annotated[str, msgspec.Meta(max_length=2048)]
PropertyName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="item", tag_field="kind"):
    """A catalogue entry, or a partial update of one: a field left out (`None`) stays as it was.

    `price` is in the shop's currency. `available=False` hides the item from every answer at once.
    """

    item_id: Id
    updated_at: Timestamp
    title: Text | None = None
    price: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    categories: Annotated[list[Text], msgspec.Meta(max_length=64)] | None = None
    available: bool | None = None
    properties: Annotated[dict[PropertyName, PropertyValue], msgspec.Meta(max_length=MAX_PROPERTIES)] | None = None

    def updated_by(self, newer: "Item") -> "Item":
        """This item with every field that `newer` sets; properties merge by name."""
        return Item(
            item_id=self.item_id,
            updated_at=max(self.updated_at, newer.updated_at),
            title=self.title if newer.title is None else newer.title,
            price=self.price if newer.price is None else newer.price,
            categories=self.categories if newer.categories is None else newer.categories,
            available=self.available if newer.available is None else newer.available,
            properties=self.properties if newer.properties is None else {**(self.properties or {}), **newer.properties},
        )

    def shown(self) -> dict[str, PropertyValue]:
        """What a frontend may ask for by name: title, price, categories and the item's own properties."""
        own: dict[str, PropertyValue] = dict(self.properties or {})
        if self.title is not None:
            own["title"] = self.title
        if self.price is not None:
            own["price"] = self.price
        if self.categories is not None:
            own["categories"] = self.categories
        return own
