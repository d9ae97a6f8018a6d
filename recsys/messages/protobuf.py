"""Messages as Protocol Buffers: a `Message` that is one of the four kinds.

The .proto file and the classes are made from one table, whose types come from the Structs. Needs protobuf (the
extra `ingest`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, cast

import msgspec
from msgspec import inspect

from recsys.errors import InvalidInput
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.wire import VERSION, Message

PACKAGE = f"millirec.v{VERSION}"
FILE = f"millirec_v{VERSION}.proto"
IMPORTS = ("google/protobuf/struct.proto", "google/protobuf/timestamp.proto")

NUMBERS: Mapping[type[Message], tuple[str, ...]] = {
    Interaction: (
        "event_id",
        "user_id",
        "item_id",
        "type",
        "occurred_at",
        "quantity",
        "price",
        "session_id",
        "recommendation_id",
        "extra",
    ),
    Item: ("item_id", "updated_at", "title", "price", "categories", "available", "properties"),
    Erasure: ("event_id", "user_id", "occurred_at"),
    Merge: ("event_id", "user_id", "into", "occurred_at"),
}
"""A field's number is its place here, from 1, and a kind's too, for as long as the version lasts: only append."""

_TYPES: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.FloatType: "double",
    inspect.BoolType: "bool",
    inspect.DateTimeType: "google.protobuf.Timestamp",
    inspect.ListType: "google.protobuf.ListValue",
    inspect.DictType: "google.protobuf.Struct",
}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    number: int
    type: str
    optional: bool

    @property
    def is_message(self) -> bool:
        """Whether the type is a message, whose presence Protobuf tracks by itself."""
        return "." in self.type


def proto() -> str:
    """The text of the .proto file."""
    lines = ['syntax = "proto3";', "", f"package {PACKAGE};", "", *(f'import "{name}";' for name in IMPORTS), ""]
    lines += ["message Message {", "  oneof kind {"]
    lines += [f"    {kind.__name__} {kind.__name__.lower()} = {n};" for n, kind in enumerate(NUMBERS, 1)]
    lines += ["  }", "}"]
    for kind in NUMBERS:
        lines += ["", f"message {kind.__name__} {{"]
        for field in _fields(kind):
            label = "optional " if field.optional and not field.is_message else ""
            lines.append(f"  {label}{field.type} {field.name} = {field.number};")
        lines.append("}")
    return "\n".join(lines) + "\n"


def encode(message: Message) -> bytes:
    """`message` as serialised Protobuf. Raises `InvalidInput` where protobuf is not installed."""
    fields = msgspec.to_builtins(message)
    written: bytes = _json_format().ParseDict({fields.pop("kind"): fields}, _message_class()()).SerializeToString()
    return written


def fields_of(value: bytes) -> dict[str, Any]:
    """The fields of a serialised message. Raises `InvalidInput` for other bytes, or where protobuf is not installed."""
    json_format = _json_format()
    try:
        parsed = json_format.MessageToDict(_message_class().FromString(value), preserving_proto_field_name=True)
    except Exception as error:  # the bytes decide which of the runtime's errors this is
        raise InvalidInput("message", f"is not valid Protobuf: {type(error).__name__}: {error}"[:200]) from error
    for kind, fields in parsed.items():
        return {"kind": kind, **fields}
    raise InvalidInput("message", f"is none of {', '.join(kind.__name__ for kind in NUMBERS)}")


def _fields(kind: type[Message]) -> Iterator[_Field]:
    types = {field.name: field for field in cast("inspect.StructType", inspect.type_info(kind)).fields}
    for number, name in enumerate(NUMBERS[kind], 1):
        field = types[name]
        choices = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        field_type = next(choice for choice in choices if not isinstance(choice, inspect.NoneType))
        yield _Field(name, number, _TYPES[type(field_type)], not field.required)


@cache
def _message_class() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2

    file = descriptor_pb2.FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3", dependency=IMPORTS)
    one_of = file.message_type.add(name="Message")
    one_of.oneof_decl.add(name="kind")
    for number, kind in enumerate(NUMBERS, 1):
        name = kind.__name__
        one_of.field.add(
            name=name.lower(), number=number, type=11, label=1, type_name=f".{PACKAGE}.{name}", oneof_index=0
        )
        _describe(file.message_type.add(name=name), kind)
    pool = descriptor_pool.DescriptorPool()
    for dependency in (struct_pb2, timestamp_pb2):
        pool.AddSerializedFile(dependency.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Message"))


def _describe(described: Any, kind: type[Message]) -> None:
    """Into a `DescriptorProto`; a field that may be left out is, there, a choice of one."""
    for field in _fields(kind):
        added = described.field.add(name=field.name, number=field.number, label=1)
        if field.is_message:
            added.type, added.type_name = added.TYPE_MESSAGE, f".{field.type}"
        else:
            added.type = getattr(added, f"TYPE_{field.type.upper()}")
        if field.optional and not field.is_message:
            added.proto3_optional = True
            added.oneof_index = len(described.oneof_decl)
            described.oneof_decl.add(name=f"_{field.name}")


def _json_format() -> ModuleType:
    try:
        from google.protobuf import json_format
    except ImportError as error:
        reason = "Protobuf needs the extra `ingest`: pip install 'millirec[ingest]'"
        raise InvalidInput("content-type", reason) from error
    return json_format
