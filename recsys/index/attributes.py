"""Attributes: the items of a version as columns, so that an expression over a million of them takes milliseconds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtefact
from recsys.filters.condition import AllOf, AnyOf, Bound, Condition, Literal, Not, OneOf
from recsys.filters.expression import Expression
from recsys.index.columns import HIDDEN, UNDESCRIBED, Columns, Rows, Span, Texts, Values, columns_of
from recsys.index.id_map import IdMap, memory_mapped
from recsys.messages.item import Item

Mask = NDArray[np.bool_]
ItemAt = Callable[[int], Item | None]

_NOWHERE = (0, 0)
_PLACES: dict[str, Callable[[Span, Span], Span]] = {
    "=": lambda _, matches: matches,
    "<": lambda column, matches: (column[0], matches[0]),
    "<=": lambda column, matches: (column[0], matches[1]),
    ">": lambda column, matches: (matches[1], column[1]),
    ">=": lambda column, matches: (matches[0], column[1]),
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """The columns (files in `recsys.index.columns`) of a version's n items."""

    columns: Columns
    state: NDArray[np.int8]
    updated: NDArray[np.float64]
    numbers: Values
    flags: Values
    texts: Texts
    item_id: IdMap

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Attributes":
        """The columns of items in memory, each item once."""
        columns, arrays = columns_of(items)
        return cls._made(columns, IdMap.build([item.item_id for item in items]), arrays.__getitem__)

    @classmethod
    def open(cls, directory: Path, item_id: IdMap) -> "Attributes":
        """Memory-map what `write_attributes` wrote. Raises `CorruptArtefact`, `OSError` or `ValueError`."""
        columns = msgspec.json.decode((directory / "attributes.json").read_bytes(), type=Columns)
        attributes = cls._made(columns, item_id, lambda name: memory_mapped(directory / f"attributes.{name}.npy"))
        if not attributes._belong_together():
            raise CorruptArtefact("attributes: the arrays do not belong together")
        return attributes

    @classmethod
    def _made(cls, columns: Columns, item_id: IdMap, array: Callable[[str], Any]) -> "Attributes":
        return cls(
            columns=columns,
            state=array("state"),
            updated=array("updated"),
            numbers=Values(array("numbers"), array("number_rows")),
            flags=Values(array("flags"), array("flag_rows")),
            texts=Texts(array("texts"), array("text_offsets"), array("text_starts"), array("text_rows")),
            item_id=item_id,
        )

    def _belong_together(self) -> bool:
        texts = self.texts
        return (
            len(self.state) == len(self.updated) == len(self.item_id)
            and len(self.numbers.values) == len(self.numbers.rows)
            and len(self.flags.values) == len(self.flags.rows)
            and len(texts.offsets) == len(texts.starts) > 0
            and (texts.offsets[-1], texts.starts[-1]) == (len(texts.blob), len(texts.rows))
        )

    def __len__(self) -> int:
        return len(self.state)

    def allowed(self, conditions: Iterable[Expression], item: ItemAt) -> Mask:
        """(n,) where an item is available and every condition holds."""
        mask: Mask = self.state != HIDDEN
        for condition in conditions:
            mask &= self.mask(condition, item)
        return mask

    def mask(self, expression: Expression, item: ItemAt) -> Mask:
        """(n,) where the expression holds: what `Expression.matches` says of each item.

        `item` reads the item of a row, for the few properties without columns (see `MAX_NAMES`).
        """
        return self._mask(expression.root, item)

    def _mask(self, condition: Condition, item: ItemAt) -> Mask:
        match condition:
            case Not(part):
                mask = self._mask(part, item)
                return np.logical_not(mask, out=mask)
            case AllOf(parts) | AnyOf(parts):
                combine = np.logical_and if isinstance(condition, AllOf) else np.logical_or
                mask = self._mask(parts[0], item)
                for part in parts[1:]:
                    combine(mask, self._mask(part, item), out=mask)
                return mask
            case OneOf(name, values, flags):
                return self._compared(condition, name, "=", (*values, *flags), item)
            case Bound(name, relation, limit):
                return self._compared(condition, name, relation, (limit,), item)

    def _compared(
        self,
        leaf: OneOf | Bound,
        name: str,
        relation: str,
        values: tuple[Literal, ...],
        item: ItemAt,
    ) -> Mask:
        mask = np.zeros(len(self), np.bool_)
        if name == "available":
            for value in values:
                mask |= (self.state != HIDDEN) == value
        elif name == "item_id":
            rows = self.item_id.rows(str(value) for value in values)
            mask[rows[rows >= 0]] = True
            # To an expression, an item without a description has no id either.
            mask &= self.state != UNDESCRIBED
        elif self.columns.has(name):
            for value in values:
                mask[self._rows(name, relation, value)] = True
        else:
            mask = np.fromiter((leaf.holds(item(row)) for row in range(len(self))), np.bool_, len(self))
        return mask

    def _rows(self, name: str, relation: str, value: Literal) -> Rows:
        if isinstance(value, str):
            within = self.columns.texts.get(name, _NOWHERE)
            return self.texts.rows_at(_PLACES[relation](within, self.texts.find(value, within)))
        flag = isinstance(value, bool)
        column, spans = (self.flags, self.columns.flags) if flag else (self.numbers, self.columns.numbers)
        within = spans.get(name, _NOWHERE)
        return column.rows_at(_PLACES[relation](within, column.find(value, within)))
