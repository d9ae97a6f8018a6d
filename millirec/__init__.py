"""The roof: the `millirec` command and the standalone composition. Only it may import all three programs."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("millirec")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
