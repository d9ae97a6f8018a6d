"""Messages as Protocol Buffers: a `Message` that is one of the four kinds.

The source is `proto/millirec_v2.proto`; `make schemas` compiles it into the descriptor set beside it, from which the
classes are made. Numbers and types of fields never change while the version lasts: messages that were published under
them are still read. Needs protobuf (the extra `ingest`).
"""

from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any, get_args

import msgspec

from recsys.errors import InvalidInput
from recsys.messages.wire import VERSION, Message

PACKAGE = f"millirec.v{VERSION}"
FILE = f"millirec_v{VERSION}.proto"
_FOLDER = files("recsys.messages") / "proto"


def proto() -> str:
    """Return the text of the .proto file."""
    return (_FOLDER / FILE).read_text("utf-8")


def encode(message: Message) -> bytes:
    """`message` as serialised Protobuf. Raises `InvalidInput` where protobuf is not installed."""
    fields = msgspec.to_builtins(message)
    written: bytes = _json_format().ParseDict({fields.pop("kind"): fields}, message_class()()).SerializeToString()
    return written


def fields_of(value: bytes) -> dict[str, Any]:
    """The fields of a serialised message. Raises `InvalidInput` for other bytes, or where protobuf is not installed."""
    json_format = _json_format()
    try:
        parsed = json_format.MessageToDict(message_class().FromString(value), preserving_proto_field_name=True)
    except Exception as error:  # the bytes decide which of the runtime's errors this is
        raise InvalidInput("message", f"is not valid Protobuf: {type(error).__name__}: {error}"[:200]) from error
    for kind, fields in parsed.items():
        return {"kind": kind, **fields}
    raise InvalidInput("message", f"is none of {', '.join(kind.__name__ for kind in get_args(Message))}")


@cache
def message_class() -> Any:
    """Return the class of `Message`, made from the compiled descriptor."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2

    compiled = (_FOLDER / f"millirec_v{VERSION}.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for dependency in (struct_pb2, timestamp_pb2):
        pool.AddSerializedFile(dependency.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Message"))


def _json_format() -> ModuleType:
    try:
        from google.protobuf import json_format
    except ImportError as error:
        reason = "Protobuf needs the extra `ingest`: pip install 'millirec[ingest]'"
        raise InvalidInput("content-type", reason) from error
    return json_format
