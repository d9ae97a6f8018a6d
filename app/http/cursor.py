"""Cursors: the rest of a ranking, carried by the client, so that any worker can serve the next page.

A page never repeats or reorders items of the pages before it, even if the user, the version in service or the
worker changes between them; items that have become unavailable are left out. A cursor is signed together with the
question it continues and its expiry; nothing in it is secret.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest
from time import time

import msgspec
import numpy as np

from app.settings import ServeSettings
from recsys.errors import InvalidInput
from recsys.recommender.placement import MAX_K, Source
from recsys.recommender.query import FallbackLevel, Recommendation

SOURCES = tuple(Source)
FORMAT = 1
LIFETIME = 3600
"""Seconds that a cursor is good for."""
SEAL_BYTES = 16
FORGED = "is not one that this service gave out for this user, placement and filter"


class Ranking(msgspec.Struct, frozen=True, array_like=True):
    """The rest of the answer `recommendation_id`: int32 rows, float32 scores, one byte per source."""

    recommendation_id: str
    version: str
    fallback_level: FallbackLevel
    degraded: bool
    rows: bytes
    scores: bytes
    sources: bytes
    expires: int
    format: int

    def recommendation(self) -> Recommendation:
        """The ranking as a recommendation. Raises `ValueError` if its parts do not fit together."""
        rows, scores = np.frombuffer(self.rows, "<i4").astype(np.int64), np.frombuffer(self.scores, "<f4")
        if not len(rows) == len(scores) == len(self.sources) <= MAX_K or not np.isfinite(scores).all():
            raise ValueError
        return Recommendation(
            self.version, self.fallback_level, rows, scores, tuple(map(SOURCES.__getitem__, self.sources))
        )


@dataclass(frozen=True, slots=True)
class Question:
    """The question that a cursor continues: the user, the placement and the filter."""

    user_id: str | None
    placement: str
    filter: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ranking).decode


class Cursors:
    """Makes and reads cursors, the same in every process with the same `secret`."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time) -> None:
        self._secret = secret
        self._clock = clock

    def cursor(self, question: Question, recommendation_id: str, degraded: bool, rest: Recommendation) -> str:
        """A signed cursor for `rest`, the part of a ranking that was not shown yet; valid for `LIFETIME` seconds."""
        ranking = _encode(
            Ranking(
                recommendation_id,
                rest.version,
                rest.fallback_level,
                degraded,
                rest.rows.astype("<i4").tobytes(),
                rest.scores.astype("<f4").tobytes(),
                bytes(SOURCES.index(source) for source in rest.sources),
                int(self._clock()) + LIFETIME,
                FORMAT,
            )
        )
        return urlsafe_b64encode(self._seal(question, ranking) + ranking).decode().rstrip("=")

    def ranking(self, question: Question, cursor: str) -> tuple[Ranking, Recommendation]:
        """The ranking in a cursor, and its rest. Raises `InvalidInput` naming `cursor` if it is forged or expired."""
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            seal, encoded = raw[:SEAL_BYTES], raw[SEAL_BYTES:]
            if not compare_digest(seal, self._seal(question, encoded)):
                raise InvalidInput("cursor", FORGED)
            ranking = _decode(encoded)
            rest = ranking.recommendation()
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            raise InvalidInput("cursor", FORGED) from error
        if ranking.expires < self._clock():
            raise InvalidInput("cursor", f"is older than {LIFETIME // 60} minutes: ask for the first page again")
        return ranking, rest

    def _seal(self, question: Question, ranking: bytes) -> bytes:
        # The question with the lengths of its parts in front, so that no two read the same.
        question_bytes = _encode((FORMAT, question.user_id, question.placement, question.filter))
        return digest(self._secret, question_bytes + ranking, "sha256")[:SEAL_BYTES]


def secret_of(serve: ServeSettings) -> bytes:
    """The secret that signs cursors: the configured one, else one derived from the hashes of all keys."""
    own = serve.cursor_secret
    text = ",".join(sorted(key.sha256 for key in serve.keys)) if own is None else own.get_secret_value()
    return sha256(b"millirec cursors\0" + text.encode()).digest()
