"""Columns: items by property, each property's values in order with the rows that have them.

So a comparison is a look-up that ends in just the rows that match. A property may have numbers, texts and flags side by
side; each kind is a column of its own. Columns of one kind lie end to end in the same files, however many there are and
whatever they are called:

attributes.json            where each column starts and ends, by kind and name
attributes.state.npy       int8 (n,): AVAILABLE, HIDDEN or UNDESCRIBED
attributes.updated.npy     float64 (n,), when an item was updated last, epoch seconds; -inf where undescribed
attributes.numbers.npy     float64, ascending in each column;   attributes.number_rows.npy  int32, the row of each
attributes.flags.npy       bool, the same;                      attributes.flag_rows.npy
attributes.texts.npy       uint8, UTF-8 of each distinct text;  attributes.text_offsets.npy  int64, where each starts
attributes.text_rows.npy   int32, rows of each distinct text;   attributes.text_starts.npy   int64, where theirs start
"""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.filters.condition import KINDS
from recsys.messages.item import Item, PropertyValue

AVAILABLE, HIDDEN, UNDESCRIBED = 1, 0, -1
MAX_NAMES = 4096
"""Properties with columns, those of most items first: their names are Python objects in every worker."""

Rows = NDArray[np.int32]
Span = tuple[int, int]


class Columns(msgspec.Struct, frozen=True):
    """The content of `attributes.json`: column spans by name; `complete` when every property has its columns."""

    numbers: dict[str, Span]
    flags: dict[str, Span]
    texts: dict[str, Span]
    complete: bool

    def has(self, name: str) -> bool:
        """Return whether an expression over `name` can be evaluated by columns: it has one, or no item has it."""
        return self.complete or name in self.numbers or name in self.flags or name in self.texts


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers or flags: `rows[i]` has `values[i]`."""

    values: NDArray[Any]
    rows: Rows

    def find(self, value: float | bool, within: Span) -> Span:
        """The span of the value in the column `within`; empty, at its position in order, where it is missing."""
        start, end = within
        column = self.values[start:end]
        return start + int(column.searchsorted(value)), start + int(column.searchsorted(value, "right"))

    def rows_at(self, places: Span) -> Rows:
        """The rows of the values in this span."""
        return self.rows[slice(*places)]


@dataclass(frozen=True, slots=True)
class Texts:
    """Distinct texts: text i is `blob[offsets[i]:offsets[i + 1]]` and `rows[starts[i]:starts[i + 1]]` have it."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: Rows

    def find(self, text: str, within: Span) -> Span:
        """The span of the text in the column `within`, empty where it is missing; UTF-8 sorts as code points do."""
        start, end = within
        needle = _encoded(text)
        position = start + bisect_left(range(start, end), needle, key=self._at)
        return position, position + (position < end and self._at(position) == needle)

    def rows_at(self, places: Span) -> Rows:
        """The rows of the texts in this span."""
        return self.rows[self.starts[places[0]] : self.starts[places[1]]]

    def _at(self, position: int) -> bytes:
        return self.blob[self.offsets[position] : self.offsets[position + 1]].tobytes()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class _Column:
    """The values of one property and kind, in the order of their rows."""

    values: list[Any] = field(default_factory=list)
    rows: "array[int]" = field(default_factory=lambda: array("i"))


def write_attributes(directory: Path, items: Sequence[Item | None]) -> list[str]:
    """Write the columns of `items` and return the names of the files."""
    columns, arrays = columns_of(items)
    for name, values in arrays.items():
        np.save(directory / f"attributes.{name}.npy", values, allow_pickle=False)
    (directory / "attributes.json").write_bytes(msgspec.json.encode(columns))
    return ["attributes.json", *(f"attributes.{name}.npy" for name in arrays)]


def columns_of(items: Sequence[Item | None]) -> tuple[Columns, dict[str, NDArray[Any]]]:
    """The columns of `items` and their arrays, by the part of the file name between the dots."""
    state = np.full(len(items), UNDESCRIBED, np.int8)
    updated = np.full(len(items), -np.inf)
    columns_by_kind: dict[type, defaultdict[str, _Column]] = {kind: defaultdict(_Column) for kind in (float, bool, str)}
    for row, item in enumerate(items):
        if item is None:
            continue
        state[row] = HIDDEN if item.available is False else AVAILABLE
        updated[row] = item.updated_at.timestamp()
        for name, kind, value in _values(item):
            column = columns_by_kind[kind][name]
            column.values.append(value)
            column.rows.append(row)
    held: Counter[str] = Counter()
    for columns_of_kind in columns_by_kind.values():
        held.update({name: len(column.rows) for name, column in columns_of_kind.items()})
    names = sorted(name for name, _ in held.most_common(MAX_NAMES))
    numbers, number_arrays = _ordered(columns_by_kind[float], names, np.float64)
    flags, flag_arrays = _ordered(columns_by_kind[bool], names, np.bool_)
    texts, text_arrays = _distinct(columns_by_kind[str], names)
    return Columns(numbers, flags, texts, complete=len(names) == len(held)), {
        "state": state,
        "updated": updated,
        **dict(zip(("numbers", "number_rows"), number_arrays, strict=True)),
        **dict(zip(("flags", "flag_rows"), flag_arrays, strict=True)),
        **dict(zip(("texts", "text_offsets", "text_starts", "text_rows"), text_arrays, strict=True)),
    }


def _values(item: Item) -> Iterator[tuple[str, type, Any]]:
    """Return the values of `recsys.filters.condition.value_of`, but of `item_id` and `available`: name, kind, value."""
    own: dict[str, PropertyValue | None] = {name: v for name, v in (item.properties or {}).items() if name not in KINDS}
    own |= {"title": item.title, "price": item.price, "categories": item.categories}
    for name, value in own.items():
        if isinstance(value, list):
            for text in dict.fromkeys(value):
                yield name, str, text
        elif isinstance(value, str | bool):
            yield name, type(value), value
        # What is not a number compares with none.
        elif value is not None and value == value:  # noqa: PLR0124
            yield name, float, value


def _ordered(
    columns: dict[str, _Column], names: Sequence[str], dtype: type
) -> tuple[dict[str, Span], list[NDArray[Any]]]:
    spans: dict[str, Span] = {}
    parts: list[tuple[NDArray[Any], Rows]] = [(np.empty(0, dtype), np.empty(0, np.int32))]
    end = 0
    for name in names:
        if name in columns:
            values: NDArray[Any] = np.array(columns[name].values, dtype)
            rows = np.array(columns[name].rows, np.int32)
            order = np.argsort(values, kind="stable")
            parts.append((values[order], rows[order]))
            spans[name] = (end, end := end + len(order))
    return spans, [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _distinct(columns: dict[str, _Column], names: Sequence[str]) -> tuple[dict[str, Span], list[NDArray[Any]]]:
    spans: dict[str, Span] = {}
    texts: list[bytes] = []
    starts, rows = [np.zeros(1, np.int64)], [np.empty(0, np.int32)]
    for name in names:
        if name in columns:
            distinct = sorted(set(columns[name].values))
            codes = {text: code for code, text in enumerate(distinct)}
            coded = np.fromiter(map(codes.__getitem__, columns[name].values), np.int64)
            rows.append(np.array(columns[name].rows, np.int32)[np.argsort(coded, kind="stable")])
            starts.append(starts[-1][-1] + np.cumsum(np.bincount(coded, minlength=len(distinct))))
            spans[name] = (len(texts), len(texts) + len(distinct))
            texts += map(_encoded, distinct)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    blob = np.frombuffer(b"".join(texts), np.uint8)
    return spans, [blob, offsets, np.concatenate(starts), np.concatenate(rows)]
