"""Files that are written whole or not at all: readers see the old content or the new, whenever a writer is killed.

The content goes to a partial file beside the target, which it replaces by a rename. A killed writer leaves its partial
file behind, `.NAME-*.partial`, which no reader looks at and a later `replacing` of the same target removes.
"""

import glob
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

PARTIAL = ".partial"
OWNER_ONLY = 0o600
STALE_SECONDS = 3600.0
"""A partial file that nothing was written to for so long is one of a killed writer."""


@contextmanager
def replacing(path: Path, *, durable: bool = False, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a stream whose bytes become `path` when the block ends; where it raises, `path` stays as it was.

    `durable`: on the disk when the block ends, so that a power cut loses neither the content nor the name. `mode` are
    the rights from the first byte on, less those that the umask denies. Raises `OSError`.
    """
    _remove_stale(path)
    with _partial(path, durable=durable, mode=mode) as stream:
        yield stream


def write_whole(path: Path, content: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Replace the content of `path` at once; the parameters are those of `replacing`. Raises `OSError`."""
    with _partial(path, durable=durable, mode=mode) as stream:
        stream.write(content)


@contextmanager
def _partial(path: Path, *, durable: bool, mode: int) -> Iterator[BinaryIO]:
    partial = path.with_name(f".{path.name}-{token_hex(4)}{PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _flush_folder(path.parent)


def _remove_stale(path: Path) -> None:
    oldest = time.time() - STALE_SECONDS
    for partial in path.parent.glob(f".{glob.escape(path.name)}-*{PARTIAL}"):
        with suppress(FileNotFoundError):
            if partial.stat().st_mtime < oldest:
                partial.unlink()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
