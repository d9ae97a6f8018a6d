"""Dead letters: records that can never be applied, kept so that nothing is lost and all can be replayed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused message: where it stood, which field was wrong and why, and its bytes as they came."""

    reason: str
    field: str
    partition: str
    offset: int
    value: bytes
    at: datetime


class DeadLetterFolder:
    """Dead letters as JSON Lines, one file per batch; the value is base64, since it may be any bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Idempotent: the same letters go to the same file, and `read` tells each place once."""
        if not letters:
            return
        places = ",".join(f"{letter.partition}:{letter.offset}" for letter in letters)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{hashlib.sha256(places.encode()).hexdigest()[:32]}.jsonl"
        partial = path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.Encoder().encode_lines(letters))
        partial.replace(path)

    def read(self) -> Iterator[DeadLetter]:
        """Each place once, in no particular order."""
        decoder = msgspec.json.Decoder(DeadLetter)
        seen: set[tuple[str, int]] = set()
        for path in sorted(self._folder.glob("*.jsonl")):
            for letter in decoder.decode_lines(path.read_bytes()):
                if (letter.partition, letter.offset) not in seen:
                    seen.add((letter.partition, letter.offset))
                    yield letter
