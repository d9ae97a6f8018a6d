"""The published schemas are the code's, are valid by their own standards, and draw the line where decoding does."""

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.messages import wire
from recsys.messages.schemas import KEYS, MEANINGS, asyncapi, documents, json_schema
from recsys.messages.wire import Message
from tests.recsys.messages.messages import MESSAGES

DOCS = Path(__file__).parents[3] / "docs"
META_SCHEMA = json.loads(Path(__file__).with_name("asyncapi-3.0.0.schema.json").read_text("utf-8"))
ODD: list[Any] = [
    "",
    "x" * 129,
    "A Type",
    "view",
    0,
    -1,
    1e13,
    1,
    0.5,
    True,
    None,
    [],
    ["a"],
    [1],
    {},
    {"": "a"},
    {"a": []},
]

_valid = jsonschema_rs.validator_for(json_schema(), validate_formats=True).is_valid


def test_the_schemas_in_docs_are_those_of_the_code() -> None:
    published = {path.name: path.read_text("utf-8") for path in (DOCS / "schemas").iterdir()}
    assert published == documents(), "run make schemas"


def test_the_asyncapi_document_is_valid_asyncapi() -> None:
    validator = jsonschema_rs.validator_for(META_SCHEMA)
    assert [error.message for error in validator.iter_errors(asyncapi("shop.events"))] == []
    assert asyncapi("shop.events")["channels"]["interactions"]["address"] == "shop.events"
    assert not validator.is_valid(asyncapi() | {"channels": {"interactions": {"address": 1}}})


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def follow(part: Any) -> int:
        if isinstance(part, list):
            return sum(map(follow, part))
        if not isinstance(part, dict):
            return 0
        target: Any = document
        for step in part.get("$ref", "#").split("/")[1:]:
            target = target[step]
        return ("$ref" in part) + sum(map(follow, part.values()))

    assert follow(document) > 10


@given(MESSAGES)
def test_what_is_sent_fits_the_json_schema(message: Message) -> None:
    assert _valid(msgspec.json.decode(wire.encode(message)))


@given(MESSAGES, st.data())
def test_the_json_schema_refuses_just_what_decoding_refuses(message: Message, data: st.DataObject) -> None:
    fields = msgspec.to_builtins(message)
    name = data.draw(st.sampled_from(sorted(fields.keys() - {"kind"})))
    if data.draw(st.booleans()):
        fields[name] = data.draw(st.sampled_from(ODD))
    else:
        del fields[name]
    assert _valid(fields) == _is_read(fields)


def _is_read(fields: dict[str, Any]) -> bool:
    try:
        wire.decode(msgspec.json.encode(fields))
    except InvalidInput:
        return False
    return True


def test_every_field_is_explained_in_the_schema_and_in_the_documentation() -> None:
    kinds = get_args(Message)
    names = {field.name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert names == MEANINGS.keys()
    assert {kind.__name__.lower() for kind in kinds} == KEYS.keys()
    rows = [line for line in (DOCS / "events.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    assert [name for name in names if not any(row.startswith(f"| `{name}` |") for row in rows)] == []
