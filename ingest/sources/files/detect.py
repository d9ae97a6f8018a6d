"""Compression, format and encoding of a file, detected from its content; names can be wrong."""

import codecs
import gzip
import zlib
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from backports import zstd

from recsys.errors import InvalidInput

HEAD = 64 * 1024
DAMAGE = (EOFError, OSError, zlib.error, zstd.ZstdError)
"""What the decompressors raise for a truncated or corrupt file."""
CANDIDATES = (",", "\t", ";", "|")


class Compression(StrEnum):
    """The compressions a file may have."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class Format(StrEnum):
    """The formats a file may have."""

    PARQUET = "Parquet"
    JSON_LINES = "JSON Lines"
    DELIMITED = "delimited text"


def compression_of(path: Path) -> Compression:
    """Return the compression of a file; raises `InvalidInput` for a missing or empty one."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InvalidInput(str(path), f"cannot be read: {error.strerror}") from error
    if not magic:
        raise InvalidInput(str(path), "is empty")
    if magic[:2] == b"\x1f\x8b":
        return Compression.GZIP
    return Compression.ZSTD if magic == b"\x28\xb5\x2f\xfd" else Compression.NONE


def decompressed(file: IO[bytes], compression: Compression) -> IO[bytes]:
    """Return `file` as a stream of uncompressed bytes."""
    if compression is Compression.GZIP:
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if compression is Compression.ZSTD:
        return cast("IO[bytes]", zstd.ZstdFile(file))
    return file


def head_of(path: Path, compression: Compression) -> bytes:
    """Return the first bytes, decompressed. Raises `InvalidInput` for a damaged file."""
    with path.open("rb") as file:
        try:
            return decompressed(file, compression).read(HEAD)
        except DAMAGE as error:
            raise InvalidInput(str(path), f"is damaged: {error}") from error


def format_of(path: Path, head: bytes) -> Format:
    """Return the format of a file; raises `InvalidInput`, saying what to do, for an unsupported one."""
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if head.startswith(b"PK\x03\x04"):
        raise InvalidInput(str(path), "is a zip or Excel file: unpack it, or save the sheet as CSV")
    first = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if not first:
        raise InvalidInput(str(path), "holds nothing but space")
    if first == b"[":
        raise InvalidInput(str(path), "is one JSON array: write one object per line (jq -c '.[]')")
    return Format.JSON_LINES if first == b"{" else Format.DELIMITED


def encoding_of(head: bytes, default: str) -> str:
    """Return the encoding of a byte order mark, or `default` without one."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return default


def delimiter_of(header: str) -> str:
    """Return the candidate found most often outside quotes in the header line; a comma for a single column."""
    bare = "".join(header.split('"')[::2])
    return max(CANDIDATES, key=bare.count)
