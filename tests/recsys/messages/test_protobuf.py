"""The checked-in .proto file: it agrees with the Structs, and what was published under it is read and written alike."""

import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from msgspec import inspect

from recsys.messages import protobuf, wire
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.wire import Message

AT = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
NUMBERS = {
    "Message": {"interaction": 1, "item": 2, "erasure": 3, "merge": 4},
    "Interaction": {
        "event_id": 1,
        "user_id": 2,
        "item_id": 3,
        "type": 4,
        "occurred_at": 5,
        "quantity": 6,
        "price": 7,
        "session_id": 8,
        "recommendation_id": 9,
        "extra": 10,
    },
    "Item": {
        "item_id": 1,
        "updated_at": 2,
        "title": 3,
        "price": 4,
        "categories": 5,
        "available": 6,
        "properties": 7,
    },
    "Erasure": {"event_id": 1, "user_id": 2, "occurred_at": 3},
    "Merge": {"event_id": 1, "user_id": 2, "into": 3, "occurred_at": 4},
}
"""As published: a field is added with a new number, and nothing here ever changes or goes."""
TYPES: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.FloatType: "double",
    inspect.BoolType: "bool",
    inspect.DateTimeType: "google.protobuf.Timestamp",
    inspect.ListType: "google.protobuf.ListValue",
    inspect.DictType: "google.protobuf.Struct",
}
PUBLISHED: list[tuple[Message, str]] = [
    (
        Interaction(
            event_id="e1",
            user_id="u1",
            item_id="i1",
            type="purchase",
            occurred_at=AT,
            quantity=2.0,
            price=3.5,
            session_id="s1",
            recommendation_id="r1",
            extra={"page": ["/", 1, None, True]},
        ),
        "0a630a026531120275311a026931220870757263686173652a0b08d7e290cd061080e59a77310000000000000040390000000000000c40"
        "420273314a02723152240a220a0470616765121a32180a031a012f0a0911000000000000f03f0a0208000a022001",
    ),
    (
        Interaction(event_id="e1", user_id="u1", item_id="i1", type="view", occurred_at=AT),
        "0a1f0a026531120275311a0269312204766965772a0b08d7e290cd061080e59a77",
    ),
    (
        Item(
            item_id="i1",
            updated_at=AT,
            title="Lamp",
            price=9.99,
            categories=["light", "home"],
            available=False,
            properties={"colour": "red"},
        ),
        "12480a026931120b08d7e290cd061080e59a771a044c616d70217b14ae47e1fa23402a110a071a056c696768740a061a04686f6d653000"
        "3a110a0f0a06636f6c6f757212051a03726564",
    ),
    (Item(item_id="i1", updated_at=AT, categories=[]), "12130a026931120b08d7e290cd061080e59a772a00"),
    (Erasure(event_id="e2", user_id="u1", occurred_at=AT), "1a150a026532120275311a0b08d7e290cd061080e59a77"),
    (
        Merge(event_id="e3", user_id="u1", into="u2", occurred_at=AT),
        "22190a026533120275311a027532220b08d7e290cd061080e59a77",
    ),
]
"""Messages and their bytes, as this version wrote them before the .proto file was the source."""


def described() -> dict[str, Any]:
    """The descriptors of the file's messages by name."""
    return dict(protobuf.message_class().DESCRIPTOR.file.message_types_by_name)


@pytest.mark.parametrize(("message", "published"), PUBLISHED)
def test_what_was_published_is_read_and_written_bit_for_bit(message: Message, published: str) -> None:
    assert protobuf.encode(message).hex() == published
    assert wire.message_of(protobuf.fields_of(bytes.fromhex(published))) == message


def test_numbers_that_were_published_never_change() -> None:
    assert protobuf.PACKAGE == "millirec.v2"
    numbered = {name: {field.name: field.number for field in kind.fields} for name, kind in described().items()}
    for name, numbers in NUMBERS.items():
        assert {field: numbered[name].get(field) for field in numbers} == numbers
    assert numbered == NUMBERS, "a new field is recorded here with its number"


@pytest.mark.parametrize("kind", get_args(Message))
def test_the_descriptor_agrees_with_the_struct_field_by_field(kind: type[Message]) -> None:
    fields = {field.name: field for field in described()[kind.__name__].fields}
    struct = cast("inspect.StructType", inspect.type_info(kind))
    assert sorted(fields) == sorted(field.name for field in struct.fields)
    for field in struct.fields:
        choices = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        (field_type,) = (choice for choice in choices if not isinstance(choice, inspect.NoneType))
        expected, stated = TYPES[type(field_type)], fields[field.name]
        if "." in expected:
            assert stated.message_type.full_name == expected
            assert stated.has_presence, "as every field that is a message"
        else:
            assert stated.type == getattr(stated, f"TYPE_{expected.upper()}"), field.name
            assert stated.has_presence == (not field.required), field.name


def test_the_kinds_of_a_message_are_those_of_the_union() -> None:
    kinds = described()["Message"].oneofs_by_name["kind"].fields
    assert [field.message_type.name for field in kinds] == [kind.__name__ for kind in get_args(Message)]
    assert [field.name for field in kinds] == [kind.__name__.lower() for kind in get_args(Message)]


def test_the_descriptor_is_what_the_proto_file_compiles_to(tmp_path: Path) -> None:
    folder = Path(str(files("recsys.messages") / "proto"))
    output = tmp_path / "compiled.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(folder), f"--descriptor_set_out={output}"]
    subprocess.run([*command, str(folder / protobuf.FILE)], check=True, timeout=60)
    assert output.read_bytes() == (folder / protobuf.FILE).with_suffix(".binpb").read_bytes(), "run `make schemas`"
