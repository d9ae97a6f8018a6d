"""stub"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Allowed:
    mask: NDArray[np.bool_]
    count: int
