"""The roof: the `millirec` command and the standalone composition. Only it may import all three programs."""

import gc
import os
from importlib.metadata import PackageNotFoundError, version

# Before anything imports numpy: the matrices of one request are small, and BLAS threads that wait for each other
# on a busy machine turn microseconds into tens of milliseconds (docs/performance.md). Processes scale, not these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What is imported stays: looking for cycles among it every 700 objects is a few per cent of a start.
gc.set_threshold(20_000, 10, 10)

try:
    __version__ = version("millirec")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
