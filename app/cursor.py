"""Cursors: the rest of a ranking, carried by the client, so that any worker can serve the next page.

A page never repeats or reorders what the pages before it showed, whatever happens to the user, the version in
service or the worker meanwhile; what has become unavailable is left out. Nothing in a cursor is secret, and a
forged one can only show items that the request's own filters allow.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error

import msgspec
import numpy as np

from recsys.errors import InvalidInput
from recsys.placement import MAX_K, Source
from recsys.recommendation import Recommendation, Rung

SOURCES = tuple(Source)


class Ranking(msgspec.Struct, frozen=True, array_like=True):
    """What was not shown yet of the answer `recommendation_id`: int32 rows, float32 scores, a byte per source."""

    recommendation_id: str
    version: str
    rung: Rung
    degraded: bool
    rows: bytes
    scores: bytes
    sources: bytes

    def recommendation(self) -> Recommendation:
        """Raises `InvalidInput` where the parts do not belong together."""
        rows, scores = np.frombuffer(self.rows, "<i4").astype(np.int64), np.frombuffer(self.scores, "<f4")
        if not len(rows) == len(scores) == len(self.sources) <= MAX_K or max(self.sources, default=0) >= len(SOURCES):
            raise InvalidInput("cursor", "is not one that this service gave out")
        return Recommendation(self.version, self.rung, rows, scores, tuple(SOURCES[one] for one in self.sources))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ranking).decode


def cursor_of(recommendation_id: str, degraded: bool, rest: Recommendation) -> str:
    ranking = Ranking(
        recommendation_id,
        rest.version,
        rest.rung,
        degraded,
        rest.rows.astype("<i4").tobytes(),
        rest.scores.astype("<f4").tobytes(),
        bytes(SOURCES.index(one) for one in rest.sources),
    )
    return urlsafe_b64encode(_encode(ranking)).decode().rstrip("=")


def ranking_of(cursor: str) -> Ranking:
    """Raises `InvalidInput` naming `cursor`."""
    try:
        return _decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (Error, ValueError, msgspec.DecodeError) as error:
        raise InvalidInput("cursor", "is not one that this service gave out") from error
