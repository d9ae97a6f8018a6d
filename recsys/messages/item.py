"""Item: what is recommended, and what a frontend shows of it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from recsys.errors import InvalidInput
from recsys.messages.interaction import Id, Timestamp

PropertyValue = str | float | bool | list[str]
MAX_PROPERTIES = 64
MAX_PROPERTIES_BYTES = 64 * 1024
"""Of an item's properties as JSON. They are all of an item that grows with updates: any other field is replaced."""
Text = Annotated[str, msgspec.Meta(max_length=2048)]
PropertyName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Properties = dict[str, PropertyValue]


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="item", tag_field="kind"):
    """A catalogue entry, or a partial update of one: a field left out (`None`) stays as it was.

    `price` is in the shop's currency. `available=False` hides the item from every answer at once.
    """

    # The bounds are those of an update as it arrives. What was stored is read by `stored_item`.

    item_id: Id
    updated_at: Timestamp
    title: Text | None = None
    price: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    categories: Annotated[list[Text], msgspec.Meta(max_length=64)] | None = None
    available: bool | None = None
    properties: Annotated[dict[PropertyName, PropertyValue], msgspec.Meta(max_length=MAX_PROPERTIES)] | None = None

    def updated_by(self, newer: "Item") -> "Item":
        """This item with every field that `newer` sets; properties merge by name, within their bounds.

        Who takes updates refuses those that have no room (`merged`); this leaves names out, so that what it makes can
        be read whatever it is made of.
        """
        return Item(
            item_id=self.item_id,
            updated_at=max(self.updated_at, newer.updated_at),
            title=self.title if newer.title is None else newer.title,
            price=self.price if newer.price is None else newer.price,
            categories=self.categories if newer.categories is None else newer.categories,
            available=self.available if newer.available is None else newer.available,
            properties=_joined(self.properties, newer.properties),
        )

    def returned_properties(self) -> Properties:
        """The values that a frontend may ask for by name: title, price, categories and the item's own properties."""
        own: Properties = dict(self.properties or {})
        if self.title is not None:
            own["title"] = self.title
        if self.price is not None:
            own["price"] = self.price
        if self.categories is not None:
            own["categories"] = self.categories
        return own


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Item).decode
_fields = msgspec.json.Decoder(dict[str, Any]).decode
_SET = {"title": str, "price": float, "categories": list[str]}


def merged(current: Item | None, update: Item) -> Item:
    """`current` with `update` merged in: the newer `updated_at` wins, of equal ones the update.

    Raises `InvalidInput` naming `properties` where the update's have no room: then all of it is refused.
    """
    older, newer = (update, current) if current and update.updated_at < current.updated_at else (current, update)
    if update.properties:
        own = (current.properties if current else None) or {}
        _check_room(own, {**((older.properties if older else None) or {}), **(newer.properties or {})})
    return older.updated_by(newer) if older else newer


def stored_item(raw: bytes) -> Item:
    """An item as it was stored, whatever the bounds were then; what is wrong with one field costs that field.

    An `available` that cannot be read hides the item. Raises `ValueError` for what is no item at all.
    """
    try:
        return _decode(raw)
    except msgspec.ValidationError:
        pass
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    try:
        return _salvaged(_fields(raw))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def hidden_item(item_id: str, updated_at: datetime | None = None) -> Item:
    """A hidden item, in place of one whose record cannot be read: that may have been hidden."""
    return Item(item_id=item_id, updated_at=updated_at or datetime.now(UTC), available=False)


def readable(item: Item) -> bool:
    """Return whether `item` is within the bounds, so that it is read again as it was written."""
    try:
        return _decode(_encode(item)) == item
    except (msgspec.DecodeError, ValueError):
        return False


def _salvaged(fields: Mapping[str, Any]) -> Item:
    """Raises `msgspec.ValidationError` where it does not say which item it is, or when."""
    plain = {name: _converted(fields.get(name), kind) for name, kind in _SET.items()}
    properties = fields.get("properties")
    own = {name: _converted(value, PropertyValue) for name, value in _named(properties)}
    available = fields.get("available")
    return Item(
        item_id=msgspec.convert(fields.get("item_id"), str),
        updated_at=msgspec.convert(fields.get("updated_at"), Timestamp),
        available=available if available is None or isinstance(available, bool) else False,
        properties=None if properties is None else {name: value for name, value in own.items() if value is not None},
        **plain,
    )


def _named(properties: object) -> list[tuple[str, Any]]:
    return list(properties.items()) if isinstance(properties, dict) else []


def _converted(value: object, kind: Any) -> Any:
    """`None` for what is of another kind."""
    try:
        return None if value is None else msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _joined(older: Properties | None, newer: Properties | None) -> Properties | None:
    """`older` with `newer`; of too many names, and of too many bytes, the last in the order they came in go."""
    if newer is None and (older is None or len(older) <= MAX_PROPERTIES):
        return older
    joined = {**(older or {}), **(newer or {})}
    while len(joined) > MAX_PROPERTIES or _size(joined) > MAX_PROPERTIES_BYTES:
        joined.popitem()
    return joined


def _check_room(own: Properties, joined: Properties) -> None:
    """Check the bounds of joined properties; those stored under wider bounds may stay as large as they are."""
    if len(joined) > max(MAX_PROPERTIES, len(own)):
        new = len(joined) - len(own)
        reason = f"would be {len(joined)} with the {new} that are new in this update, {MAX_PROPERTIES} are allowed"
        raise InvalidInput("properties", reason)
    size = _size(joined)
    if size > MAX_PROPERTIES_BYTES and size > _size(own):
        raise InvalidInput("properties", f"would take {size} bytes as JSON, {MAX_PROPERTIES_BYTES} are allowed")


def _size(properties: Properties) -> int:
    """In bytes, as JSON."""
    return len(_encode(properties))
