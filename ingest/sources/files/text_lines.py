"""Text files line by line, in bounded memory."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ingest.sources.files.detect import DAMAGE, Compression, decompressed
from ingest.sources.rows import MAX_LINE
from recsys.errors import InvalidInput


class TextLines:
    """Iterates lines with their ends. Undecodable bytes become surrogates, see `is_text`.

    A line of more than MAX_LINE characters is cut to that length, and sets `cut` until the caller resets it.
    """

    def __init__(self, path: Path, compression: Compression, encoding: str) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("rb")
        errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
        inside = decompressed(self._file, compression)
        self._text = io.TextIOWrapper(inside, encoding, errors, newline="")
        self.cut = False

    def __iter__(self) -> Iterator[str]:
        readline = self._text.readline
        try:
            while line := readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
                    self.cut = True
                    while (rest := readline(MAX_LINE)) and not rest.endswith(("\n", "\r")):
                        pass
                yield line
        except DAMAGE as error:
            raise InvalidInput(str(self._path), f"is damaged: {error}") from error
        except UnicodeError as error:
            raise InvalidInput(str(self._path), f"is not in the encoding given: {error}") from error

    def position(self) -> int:
        """Return the bytes read so far, as on disk."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._text.close()
        self._file.close()


def is_text(line: str) -> bool:
    """Return whether every byte of `line` could be decoded."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(line: str) -> str:
    """Return the line without its end, undecodable bytes replaced, fit for a JSON file."""
    return line.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
