"""Condition: the tree that an expression is compiled to, evaluated for one item.

`recsys.index.attributes` evaluates the same tree over columns.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from recsys.messages.item import Item, PropertyValue

KINDS: dict[str, type] = {"item_id": str, "title": str, "categories": str, "price": float, "available": bool}
"""An item's own fields, by the type of the values they compare with."""
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Literal = str | float | bool


def value_of(item: Item | None, name: str) -> PropertyValue | None:
    """The value of a field or property, `None` where there is none; fields hide properties of the same name.

    An item is available unless it says otherwise.
    """
    if name == "available":
        return item is None or item.available is not False
    if item is None:
        return None
    if name in KINDS:
        value: PropertyValue | None = getattr(item, name)
        return value
    return None if item.properties is None else item.properties.get(name)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The property is one of these, or a list with one of them. Apart, because in Python True == 1.0."""

    name: str
    values: frozenset[str | float]
    flags: frozenset[bool]
    depth: ClassVar[int] = 1

    @classmethod
    def of(cls, name: str, literals: Iterable[Literal]) -> "OneOf":
        """The comparison of property `name` with `literals`, flags kept apart from numbers and texts."""
        literals = tuple(literals)
        flags = frozenset(literal for literal in literals if isinstance(literal, bool))
        return cls(name, frozenset(literal for literal in literals if not isinstance(literal, bool)), flags)

    def holds(self, item: Item | None) -> bool:
        """Return whether the item's property, or one element of a list, is among the values."""
        value = value_of(item, self.name)
        if isinstance(value, bool):
            return value in self.flags
        if isinstance(value, list):
            return not self.values.isdisjoint(value)
        return value in self.values


@dataclass(frozen=True, slots=True)
class Bound:
    """The property, or a value of a list, is on this side of `limit`: numbers by size, texts by code points."""

    name: str
    relation: str
    limit: str | float
    depth: ClassVar[int] = 1

    def holds(self, item: Item | None) -> bool:
        """Return whether the item's property, or one element of a list, is within the bound; False for another type."""
        value, compare, limit = value_of(item, self.name), _ORDER[self.relation], self.limit
        if isinstance(limit, float):
            return isinstance(value, float | int) and not isinstance(value, bool) and compare(value, limit)
        if isinstance(value, list):
            return any(compare(element, limit) for element in value)
        return isinstance(value, str) and compare(value, limit)


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where `part` does not; `depth` counts the levels of nesting from here down."""

    part: "Condition"
    depth: int

    def holds(self, item: Item | None) -> bool:
        """Return whether the part does not hold for `item`."""
        return not self.part.holds(item)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds where every one of `parts` does."""

    parts: tuple["Condition", ...]
    depth: int

    def holds(self, item: Item | None) -> bool:
        """Return whether every part holds for `item`."""
        for part in self.parts:  # noqa: SIM110  # twice as fast as all() of a generator, and runs for every changed item
            if not part.holds(item):
                return False
        return True


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds where at least one of `parts` does."""

    parts: tuple["Condition", ...]
    depth: int

    def holds(self, item: Item | None) -> bool:
        """Return whether at least one part holds for `item`."""
        for part in self.parts:  # noqa: SIM110
            if part.holds(item):
                return True
        return False


Condition = OneOf | Bound | Not | AllOf | AnyOf


def comparisons(node: Condition) -> Iterator[OneOf | Bound]:
    """Yield every comparison in the tree, from left to right."""
    match node:
        case OneOf() | Bound():
            yield node
        case Not(part):
            yield from comparisons(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from comparisons(part)
