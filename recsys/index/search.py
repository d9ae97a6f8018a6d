"""SearchIndex: the items with the largest inner products, by whichever structure the trainer measured to be fastest."""

from math import ceil
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.index.allowed import AllowedRows
from recsys.index.factors import Matrix
from recsys.models.kinds import SearchSpec

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

EXACT_UP_TO = 8_000
"""Allowed rows that are scored one by one rather than searched for: about as long as a filtered search takes."""
MOSTLY = 0.8
"""Share of allowed rows from which on it pays to search without the filter and drop what it forbids."""

FILTERED_SHARE, FILTERED_ROWS = 0.2, 20_000
"""Share of IVF's lists, and allowed rows, that a filtered search looks at, at least: the lists nearest to a user may
hold little of a category, and what is there would fill the answer (ADR 14)."""
SPARE = 8
MAX_CANDIDATES = 65_536

_faiss: Any = faiss
"""Its type hints do not know what its Python layer adds to parameters and selectors."""

# Batches of 20 and more would go through BLAS, whose rounding depends on who else is in the batch.
faiss.cvar.distance_compute_blas_threshold = 1 << 30


class SearchIndex:
    """Searches `factors` (n, d) through a Faiss index of them. Immutable, and safe to share among threads."""

    def __init__(self, index: faiss.Index, factors: Matrix, spec: SearchSpec) -> None:
        self.index = index
        self.factors = factors
        self.spec = spec

    @classmethod
    def open(cls, path: Path, factors: Matrix, spec: SearchSpec) -> "SearchIndex":
        """Open memory-mapped, so that processes share the file's pages. Raises `RuntimeError`."""
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), factors, spec)

    def __len__(self) -> int:
        return len(self.factors)

    @property
    def dimensions(self) -> int:
        """The length d of the vectors searched with."""
        return int(self.index.d) - self.spec.augmented

    def search(self, vectors: Matrix, k: int, allowed: AllowedRows | None = None) -> tuple[Rows, Scores]:
        """Rows (q, k), best first and -1 where there is none, with inner products (q, k), for vectors (q, d).

        Scores are computed from the factors, one query at a time, so that they do not depend on the batch.
        """
        rows, scores = np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), -np.inf, np.float32)
        allowed = None if allowed is None else allowed.first(len(self))
        # So many that their candidates' factors fit into a few megabytes.
        block = max(1, MAX_CANDIDATES // max(k * self.spec.refine, 1))
        for start in range(0, len(vectors), block):
            lines = slice(start, start + block)
            block_rows, scored = self._allowed_nearest(vectors[lines], min(k, len(self)), allowed)
            rows[lines, : block_rows.shape[1]], scores[lines, : block_rows.shape[1]] = block_rows, scored
        return rows, scores

    def _allowed_nearest(self, vectors: Matrix, k: int, allowed: AllowedRows | None) -> tuple[Rows, Scores]:
        if allowed is None or allowed.count == len(self):
            return self._nearest(vectors, k)
        k = min(k, allowed.count)
        if allowed.count <= EXACT_UP_TO:
            return self._exact(vectors, k, allowed)
        if allowed.count >= MOSTLY * len(self):
            rows, scores = self._nearest(vectors, min(ceil(k / MOSTLY) + SPARE, len(self)))
            may = allowed.mask[rows]
            nearest_rows, scored = rows[:, :k].copy(), scores[:, :k].copy()
            for line in np.flatnonzero(~may[:, :k].all(axis=1)).tolist():
                positions = np.flatnonzero(may[line])[:k]
                nearest_rows[line, : len(positions)], scored[line, : len(positions)] = (
                    rows[line, positions],
                    scores[line, positions],
                )
                nearest_rows[line, len(positions) :], scored[line, len(positions) :] = -1, -np.inf
            rows, scores = nearest_rows, scored
        else:
            rows, scores = self._nearest(vectors, k, allowed)
        # A narrow filter may leave an approximate search with less than there is.
        short = np.flatnonzero(rows[:, -1] < 0)
        if len(short):
            rows[short], scores[short] = self._exact(vectors[short], k, allowed)
        return rows, scores

    def _nearest(self, vectors: Matrix, k: int, allowed: AllowedRows | None = None) -> tuple[Rows, Scores]:
        queries = vectors
        if self.spec.augmented:
            queries = np.hstack([vectors, np.zeros((len(vectors), 1), np.float32)])
        limit = min(k * self.spec.refine, len(self))
        _, rows = self.index.search(queries, limit, params=self._parameters(allowed))
        scores = np.matmul(self.factors[np.maximum(rows, 0)], vectors[:, :, None])[..., 0]
        scores[rows < 0] = -np.inf
        return _best(rows, scores, k)

    def _exact(self, vectors: Matrix, k: int, allowed: AllowedRows) -> tuple[Rows, Scores]:
        rows = allowed.rows
        if len(rows) * 4 < len(self):
            factors, places = self.factors[rows], rows
        else:
            factors, places = self.factors, np.arange(len(self))
        best_rows, scored = np.empty((len(vectors), k), np.int64), np.empty((len(vectors), k), np.float32)
        for line, vector in enumerate(vectors):
            scores = factors @ vector
            if factors is self.factors:
                scores[~allowed.mask] = -np.inf
            top = np.argpartition(-scores, k - 1)[:k] if k < len(scores) else np.arange(len(scores))
            # Of equal scores the lower row: those on the edge are all looked at.
            top = np.flatnonzero(scores >= scores[top].min()) if len(top) else top
            order = top[np.lexsort((top, -scores[top]))][:k]
            best_rows[line], scored[line] = places[order], scores[order]
        return best_rows, scored

    def _lists(self, allowed: AllowedRows | None) -> int:
        if allowed is None:
            return self.spec.nprobe
        share = min(1.0, max(FILTERED_SHARE, FILTERED_ROWS / allowed.count))
        lists: int = cast("Any", self.index).nlist
        return max(self.spec.nprobe, ceil(share * lists))

    def _parameters(self, allowed: AllowedRows | None) -> faiss.SearchParameters | None:
        options: dict[str, Any] = {}
        if allowed is not None:
            options["sel"] = _faiss.IDSelectorBitmap(allowed.bitmap)
        if self.spec.nprobe:
            kind, options["nprobe"] = _faiss.SearchParametersIVF, self._lists(allowed)
        elif self.spec.ef_search:
            share = 1.0 if allowed is None else allowed.count / len(self)
            kind, options["efSearch"] = _faiss.SearchParametersHNSW, ceil(self.spec.ef_search / share)
        else:
            kind = _faiss.SearchParameters
        parameters: faiss.SearchParameters | None = kind(**options) if options else None
        return parameters


def _best(rows: Rows, scores: Scores, k: int) -> tuple[Rows, Scores]:
    """The k best of each line (q, m), ties by row, what does not exist (-1) last."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    lines = np.arange(len(rows))[:, None]
    return rows[lines, order], scores[lines, order]
