"""Message schemas for producers of every language: JSON Schema, Avro, Protobuf, and an AsyncAPI document of them all.

Made from the Structs and never written by hand: a test holds docs/schemas equal to this.
"""

from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from typing import Any, get_args

import msgspec

from recsys.messages import avro, protobuf
from recsys.messages.envelope import AVRO, CONTENT_TYPE, JSON, PROTOBUF, SCHEMA_VERSION
from recsys.messages.wire import VERSION, Message

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KEYS: Mapping[str, str] = {
    "interaction": "the user's id",
    "item": "the item's id",
    "erasure": "the user's id",
    "merge": "the id of the user that ends",
}
"""The key of a message of each kind, so that all messages about one user stay in order."""

MEANINGS: Mapping[str, str] = {
    "event_id": "unique for each message of a user; a message that comes again under it counts once",
    "user_id": "who; the message's key as well",
    "item_id": "the item as the catalogue calls it",
    "type": "view, click, add_to_cart, purchase, impression (shown, no sign of taste), or one of the shop's own",
    "occurred_at": "when it happened, with a time zone; at most 5 minutes ahead of the consumer's clock",
    "quantity": "how many units",
    "price": "of one unit, in the shop's currency",
    "session_id": "the visit that it belongs to",
    "recommendation_id": "of the answer that led to it, from that answer",
    "extra": "anything else: kept in the log, used for nothing; fields that are unknown here are moved into it",
    "updated_at": "when the item became this; of two updates the later has the say, field by field",
    "title": "what a frontend shows",
    "categories": "the item's categories; an empty list takes them away",
    "available": "false hides the item from every answer",
    "properties": "the shop's own, to filter by and to show; merged by name, up to 64 of an item and 64 KiB as JSON",
    "into": "who has from now on all that the user had",
}
"""Descriptions of fields by name, the same in every kind of message."""

DEAD_LETTER_HEADERS: Mapping[str, str] = {
    "letter": "the letter's id, for `millirec dead-letters`",
    "times-seen": "1, and one more for each replay",
    "reason": "what was wrong",
    "field": "the field or header that was wrong",
    "partition": "where the message stood",
    "offset": "where the message stood",
    "key": "the message's key",
    "at": "when it was refused, RFC 3339",
}
"""Headers of a dead letter, besides the message's own."""

_DESCRIPTION = """Messages of the shop: interactions, catalogue updates, erasures and merges of users, on one topic.

Send them to `POST /events` and its neighbours, or feed the topic directly, as described here. A message that cannot
be applied becomes a dead letter that names the field and the reason, and can be replayed."""


def documents() -> dict[str, str]:
    """File name and text of every schema, as they are kept in docs/schemas."""
    return {
        f"millirec_v{VERSION}.schema.json": pretty(json_schema()),
        f"millirec_v{VERSION}.avsc": pretty(avro.schema()),
        protobuf.FILE: protobuf.proto(),
        "asyncapi.json": pretty(asyncapi()),
    }


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one message; `$defs` has the kinds."""
    schemas, kinds = _components("#/$defs/{name}")
    return {"$schema": DIALECT, "title": f"A message of version {VERSION}", **schemas, "$defs": kinds}


def asyncapi(topic: str = "interactions") -> dict[str, Any]:
    """AsyncAPI 3 document of the interaction topic called `topic`."""
    _, kinds = _components("#/components/schemas/{name}")
    names = [*(name.lower() for name in kinds), "avro", "protobuf"]
    messages = {name.lower(): _json_message(name.lower(), schema) for name, schema in kinds.items()}
    messages["avro"] = _binary_message(
        AVRO, "any kind as Avro", "application/vnd.apache.avro+json;version=1.9.0", avro.schema()
    )
    messages["protobuf"] = _binary_message(
        PROTOBUF, "any kind as Protobuf", "application/vnd.google.protobuf;version=3", protobuf.proto()
    )
    channel = {"$ref": "#/channels/interactions"}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "millirec interaction topic",
            "version": str(VERSION),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "channels": {
            "interactions": {
                "address": topic,
                "description": "Messages of one key keep their order. Delivered at least once, counted once.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            },
            "deadLetters": {
                "address": f"{topic}.dead-letters",
                "description": "What could not be applied, with the reason, for other programs to know of.",
                "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
            },
        },
        "operations": {
            "consume": {
                "action": "receive",
                "channel": channel,
                "summary": "Into the feature store and the interaction log; read by ingest.",
            },
            "produce": {
                "action": "send",
                "channel": channel,
                "summary": "What came by HTTP, acknowledged before the answer; sent by the service.",
                "messages": [{"$ref": f"#/channels/interactions/messages/{name.lower()}"} for name in kinds],
            },
            "refuse": {
                "action": "send",
                "channel": {"$ref": "#/channels/deadLetters"},
                "summary": "Once for each refusal, or again after a crash; told by ingest.",
            },
        },
        "components": {"messages": {**messages, "deadLetter": _dead_letter()}, "schemas": kinds},
    }


@cache
def _components(template: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schema of a message, and of each kind by name."""
    (message,), kinds = msgspec.json.schema_components((Message,), ref_template=template)
    for schema in kinds.values():
        # Unknown fields are welcome; that the Struct refuses them is how `wire` notices them.
        schema.pop("additionalProperties", None)
        schema["description"] = cleandoc(schema["description"])
        for name, field in schema["properties"].items():
            if name in MEANINGS:
                field["description"] = MEANINGS[name]
    return message, {kind.__name__: kinds[kind.__name__] for kind in get_args(Message)}


def _json_message(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": kind,
        "title": schema["title"],
        "summary": schema["description"].partition("\n")[0],
        "contentType": JSON,
        "headers": _headers(JSON, required=[]),
        "payload": {"$ref": f"#/components/schemas/{schema['title']}"},
        "bindings": _key(KEYS[kind]),
    }


def _binary_message(content_type: str, title: str, schema_format: str, schema: Any) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": content_type,
        "headers": _headers(content_type, required=[CONTENT_TYPE, SCHEMA_VERSION]),
        "payload": {"schemaFormat": schema_format, "schema": schema},
        "bindings": _key("the user's id, or the item's of an item"),
    }


def _dead_letter() -> dict[str, Any]:
    headers = {name: {"type": "string", "description": meaning} for name, meaning in DEAD_LETTER_HEADERS.items()}
    return {
        "title": "a refused message",
        "summary": "The bytes and headers as they came, and these headers besides.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
        "payload": {"description": "whatever it was"},
        "bindings": _key("the letter's id"),
    }


def _headers(content_type: str, required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            CONTENT_TYPE: {"type": "string", "const": content_type},
            SCHEMA_VERSION: {"type": "string", "const": str(VERSION), "description": "version 1 where it is missing"},
        },
        "required": required,
    }


def _key(meaning: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": meaning}, "bindingVersion": "0.5.0"}}


def pretty(document: Any) -> str:
    """`document` as JSON indented by two spaces, with a final line break."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
