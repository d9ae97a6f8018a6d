"""The mapping: which columns of a file become which fields of interactions and items."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import polars as pl
import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from recsys.errors import InvalidInput
from recsys.messages.item import MAX_PROPERTIES
from recsys.settings import Section

MAX_BYTES = 1 << 20
LISTED = 20
INTERACTION_FIELDS = (
    "event_id", "user_id", "item_id", "type", "occurred_at", "quantity", "price", "session_id", "recommendation_id",
)  # fmt: skip
ITEM_FIELDS = ("item_id", "updated_at", "title", "price", "categories", "available")


def _usable_regex(pattern: str) -> str:
    try:
        pl.Series(["x"]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


Regex = Annotated[str, BeforeValidator(_usable_regex)]
PropertyName = Annotated[str, Field(min_length=1, max_length=64)]


class ColumnField(Section):
    """A field's value: from `column`, or the same `value` in every row."""

    column: str | None = None
    value: str | None = None
    optional: bool = Field(False, description="the file may lack the column")

    @model_validator(mode="after")
    def _one_source(self) -> "ColumnField":
        if sum(source is not None for source in (self.column, self.value, getattr(self, "columns", None))) != 1:
            raise ValueError("needs exactly one of a column (or columns) and a value")
        return self

    def needed(self) -> list[str]:
        """Return the columns the value is read from."""
        return [] if self.column is None else [self.column]


class TextField(ColumnField):
    """Text, stripped of surrounding space; of several `columns` joined by `separator`."""

    columns: list[str] | None = Field(None, min_length=1)
    separator: str = "-"
    case: Literal["upper", "lower"] | None = None
    values: dict[str, str] = Field({}, description="replaces whole values, such as {buy: purchase}")
    must_match: Regex | None = Field(None, description="a row whose value does not match is rejected")
    reason: str | None = Field(None, description="why, in the quality report")

    def needed(self) -> list[str]:
        """Return the columns the value is read from, in the order they are joined."""
        return self.columns or super().needed()


class NumberField(ColumnField):
    """A number; `above` rejects a row whose value is not greater."""

    above: float | None = None
    decimal: Literal[".", ","] = "."


class TimeField(ColumnField):
    """A time: ISO 8601, or `format` (strptime codes, `epoch_s`, `epoch_ms`); without an offset it is in `time_zone`."""

    format: str | None = None
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{name!r} is no time zone; use a name such as Europe/London") from error
        return name

    @field_validator("format")
    @classmethod
    def _usable_format(cls, codes: str | None) -> str | None:
        if codes not in (None, "epoch_s", "epoch_ms"):
            try:
                pl.Series(["x"]).str.to_datetime(codes, strict=False)
            except pl.exceptions.PolarsError as error:
                raise ValueError(f"{codes!r} is no time format: {error}") from error
        return codes


class ListField(ColumnField):
    """A list of texts: a JSON array, or text split at `split`."""

    split: str = "|"


class FlagField(ColumnField):
    """Yes or no: true, yes, y, 1, or false, no, n, 0."""


def _column_name(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


Text = Annotated[TextField, BeforeValidator(_column_name)]
Number = Annotated[NumberField, BeforeValidator(_column_name)]
Time = Annotated[TimeField, BeforeValidator(_column_name)]
Texts = Annotated[ListField, BeforeValidator(_column_name)]
Flag = Annotated[FlagField, BeforeValidator(_column_name)]


class InteractionMapping(Section):
    """Where an interaction's fields come from.

    `event_id` also says what a repeat is: rows of one user with one event id are the same interaction,
    the first is kept, the others are merged into it. Left out, it is a digest of all other fields.
    """

    event_id: Text | None = None
    user_id: Text
    item_id: Text
    type: Text
    occurred_at: Time
    quantity: Number | None = None
    price: Number | None = None
    session_id: Text | None = None
    recommendation_id: Text | None = None


class ItemMapping(Section):
    """Where an item's fields come from; beside an interaction mapping, id and time default to the interaction's."""

    item_id: Text | None = None
    updated_at: Time | None = None
    title: Text | None = None
    price: Number | None = None
    categories: Texts | None = None
    available: Flag | None = None
    properties: dict[PropertyName, Text] = Field({}, max_length=MAX_PROPERTIES)


class RejectRule(Section):
    """Rows whose `column` matches the regular expression `matches` are rejected, for `reason`."""

    column: str
    matches: Regex
    reason: str = Field(min_length=1)


class Mapping(Section):
    """A whole mapping file."""

    interaction: InteractionMapping | None = None
    item: ItemMapping | None = None
    reject: list[RejectRule] = Field([], description="rules, the first that applies gives the reason")
    count: dict[str, str] = Field({}, description="report name -> column whose distinct values are counted")
    encoding: str = Field("utf-8", description="of CSV, TSV and JSON Lines files")
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="found out when left out")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            b"a,b\n".decode(name, "replace" if name.lower().startswith("utf-16") else "surrogateescape")
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"{name!r} is no encoding; use a name such as latin-1") from error
        return name

    @field_validator("delimiter")
    @classmethod
    def _usable_delimiter(cls, character: str | None) -> str | None:
        if character is not None and character in '"\r\n':
            raise ValueError(f"{character!r} cannot separate fields")
        return character

    @model_validator(mode="after")
    def _yields_something(self) -> "Mapping":
        if self.interaction is None and self.item is None:
            raise ValueError("needs an `interaction:` or an `item:` section")
        if self.interaction is None and self.item is not None and self.item.item_id is None:
            raise ValueError("item.item_id: is missing")
        return self

    def fields(self) -> list[tuple[str, ColumnField]]:
        """Return every mapped field with its path, such as `interaction.user_id`."""
        fields: list[tuple[str, ColumnField]] = []
        for section, part in (("interaction", self.interaction), ("item", self.item)):
            for name in () if part is None else type(part).model_fields:
                field = getattr(part, name)
                if isinstance(field, ColumnField):
                    fields.append((f"{section}.{name}", field))
        properties = {} if self.item is None else self.item.properties
        return [*fields, *((f"item.properties.{name}", field) for name, field in properties.items())]

    def check_columns(self, columns: Sequence[str]) -> None:
        """Check that the file has every needed column; raises `InvalidInput` naming the field and the columns."""
        needed = [(f"mapping {path}", name) for path, field in self.fields() if not field.optional
                  for name in field.needed()]  # fmt: skip
        needed += [(f"mapping reject.{n}", rule.column) for n, rule in enumerate(self.reject)]
        needed += [(f"mapping count.{name}", column) for name, column in self.count.items()]
        for path, name in needed:
            if name not in columns:
                raise InvalidInput(path, f"no column {name!r} in the file; its columns are {_listed(columns)}")


class _Loader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose the next node; raises `YAMLError` for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read: write the value out")
        return super().compose_node(parent, index)


def read_mapping(path: Path) -> Mapping:
    """Read a YAML or TOML mapping file. Raises `InvalidInput` naming the wrong field."""
    kind = "TOML" if path.suffix == ".toml" else "YAML"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(str(path), f"is longer than {MAX_BYTES:,} bytes: is it a mapping?")
        text = path.read_text("utf-8")
        document = tomllib.loads(text) if kind == "TOML" else yaml.load(text, _Loader)  # noqa: S506  # a safe one
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InvalidInput(str(path), f"is {kind} that is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(str(path), f"is no {kind}: {error}") from error
    return _validated(document, path.name)


def _validated(document: Any, source: str) -> Mapping:
    try:
        return Mapping.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "mapping"
        raise InvalidInput(f"{source}: {field}", first["msg"].removeprefix("Value error, ")) from error


def _listed(columns: Sequence[str]) -> str:
    """Return the first columns for an error message, long names shortened."""
    shown = [name if len(name) <= 64 else f"{name[:64]}..." for name in columns[:LISTED]]
    return ", ".join(shown) + (f" and {len(columns) - LISTED:,} more" if len(columns) > LISTED else "")


def mapping_by_name(columns: Sequence[str]) -> Mapping:
    """Return the mapping of a file whose columns have our field names; raises `InvalidInput` when they do not."""
    named = {name: name for name in columns}
    if "item_id" not in named:
        raise InvalidInput("mapping", f"is needed: the file has no column item_id, only {_listed(columns)}")
    sections: dict[str, Any]
    if "user_id" in named:
        missing = [name for name in ("type", "occurred_at") if name not in named]
        if missing:
            raise InvalidInput("mapping", f"is needed: the file has no column {missing[0]}, only {_listed(columns)}")
        sections = {"interaction": {name: name for name in INTERACTION_FIELDS if name in named}}
    else:
        own = [name for name in columns if name not in (*ITEM_FIELDS, "kind")]
        properties = {name.removeprefix("properties."): name for name in own}
        sections = {"item": {name: name for name in ITEM_FIELDS if name in named} | {"properties": properties}}
    return _validated(sections, "the file's columns")
