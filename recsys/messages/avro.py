"""Messages as Avro: the binary encoding of a union of the four kinds, without a container around it.

The schema is made from the Structs, so that the two cannot drift apart. Needs fastavro (the extra `ingest`).
"""

from datetime import datetime
from functools import cache
from io import BytesIO
from math import isfinite
from types import ModuleType
from typing import Any, cast, get_args

import msgspec
from msgspec import inspect

from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.wire import VERSION, Message

NAMESPACE = f"millirec.v{VERSION}"
JSON_TEXT = "a JSON object as text"
_SCALARS: dict[type[inspect.Type], Any] = {
    inspect.StrType: "string",
    inspect.FloatType: "double",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
    inspect.DateTimeType: {"type": "long", "logicalType": "timestamp-micros"},
}


def schema() -> list[dict[str, Any]]:
    """The Avro schema of a message: a union of records, named after the Structs."""
    return [_record(kind) for kind in get_args(Message)]


def encode(message: Message) -> bytes:
    """`message` in Avro's binary encoding. Raises `InvalidInput` where fastavro is not installed."""
    fields = msgspec.to_builtins(message, builtin_types=(datetime,))
    if fields.get("extra") is not None:
        fields["extra"] = msgspec.json.encode(fields["extra"]).decode()
    del fields["kind"]
    written = BytesIO()
    _fastavro().schemaless_writer(written, _parsed(), (f"{NAMESPACE}.{type(message).__name__}", fields))
    return written.getvalue()


def fields_of(value: bytes) -> dict[str, Any]:
    """The fields of an encoded message. Raises `InvalidInput` for other bytes, and where fastavro is not installed."""
    avro = _fastavro()
    source = BytesIO(value)
    try:
        name, fields = avro.schemaless_reader(source, _parsed(), None, return_record_name=True)
    except Exception as error:  # fastavro checks little: bytes raise whatever they happen upon
        raise InvalidInput("message", f"is not valid Avro: {type(error).__name__}: {error}"[:200]) from error
    if source.read(1):
        raise InvalidInput("message", "is not valid Avro: bytes are left over")
    for field, number in [*fields.items(), *(fields.get("properties") or {}).items()]:
        if isinstance(number, float) and not isfinite(number):
            raise InvalidInput(field, "is no finite number")
    if fields.get("extra") is not None:
        fields["extra"] = wire.fields_of(fields["extra"].encode())
    return {"kind": name.rpartition(".")[2].lower(), **fields}


def _record(kind: type[msgspec.Struct]) -> dict[str, Any]:
    fields = [_field(field) for field in cast("inspect.StructType", inspect.type_info(kind)).fields]
    return {"type": "record", "name": kind.__name__, "namespace": NAMESPACE, "fields": fields}


def _field(field: inspect.Field) -> dict[str, Any]:
    written: dict[str, Any] = {"name": field.name, "type": _type(field.type)}
    if not field.required:
        written["default"] = field.default
    if _is_free(field.type):
        written["doc"] = JSON_TEXT
    return written


def _type(described: inspect.Type) -> Any:
    match described:
        case inspect.UnionType(types=choices):
            # A default is of a union's first type.
            return sorted((_type(choice) for choice in choices), key=lambda choice: choice != "null")
        case inspect.ListType(item_type=inner):
            return {"type": "array", "items": _type(inner)}
        case inspect.DictType(value_type=inspect.AnyType()):
            return "string"
        case inspect.DictType(value_type=inner):
            return {"type": "map", "values": _type(inner)}
        case inspect.Metadata(type=inner):
            return _type(inner)
    return _SCALARS[type(described)]


def _is_free(described: inspect.Type) -> bool:
    """Return whether this is an object of any content, for which Avro has no type."""
    if isinstance(described, inspect.UnionType):
        return any(_is_free(choice) for choice in described.types)
    return isinstance(described, inspect.DictType) and isinstance(described.value_type, inspect.AnyType)


@cache
def _parsed() -> Any:
    return _fastavro().parse_schema(schema())


def _fastavro() -> ModuleType:
    try:
        import fastavro
    except ImportError as error:
        raise InvalidInput("content-type", "Avro needs the extra `ingest`: pip install 'millirec[ingest]'") from error
    return fastavro
