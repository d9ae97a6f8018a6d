"""The rows that may be recommended, in every shape that a search asks for."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class AllowedRows:
    """The rows set in `mask` (n,) and their `count`. Other shapes are computed on first use and cached."""

    mask: Mask
    count: int

    @classmethod
    def of(cls, mask: Mask) -> "AllowedRows":
        """The rows that are set in `mask` (n,)."""
        return cls(mask, int(np.count_nonzero(mask)))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The allowed rows, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def bitmap(self) -> NDArray[np.uint8]:
        """A bit per row, the lowest first, as Faiss selects by."""
        return np.packbits(self.mask, bitorder="little")

    def first(self, n: int) -> "AllowedRows":
        """The allowed rows below `n`: the version's own, without items that appeared later."""
        if len(self.mask) == n:
            return self
        if n not in self._below:
            self._below[n] = AllowedRows.of(self.mask[:n])
        return self._below[n]

    @cached_property
    def _below(self) -> dict[int, "AllowedRows"]:
        return {}
