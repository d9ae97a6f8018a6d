"""URLs whose percent-encoded bytes are no UTF-8 are refused: servers put U+FFFD in place of such bytes, and many
different ids would become one.
"""

from urllib.parse import unquote_plus, unquote_to_bytes

from fastapi import Request

from app.http.problems import NotUtf8

REPLACED = "\ufffd"


async def only_utf8(request: Request) -> None:
    """A dependency of every route. Raises `NotUtf8` naming the parameter."""
    check_query(request.scope["query_string"])
    # Nearly no path has it, and without it the bytes are of no interest.
    if REPLACED in request.scope["path"] and not _is_utf8(request.scope["raw_path"]):
        named = (name for name, value in request.path_params.items() if REPLACED in value)
        raise NotUtf8(next(named, "path"))


def check_query(raw: bytes) -> None:
    """Raises `NotUtf8` naming the parameter."""
    for part in raw.split(b"&"):
        if not _is_utf8(part):
            raise NotUtf8(unquote_plus(part.partition(b"=")[0].decode("utf-8", "replace"))[:64])


def _is_utf8(raw: bytes) -> bool:
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return True
