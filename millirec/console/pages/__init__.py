"""One page, one file. `load` imports them all, and by that registers them."""

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    for one in iter_modules(__path__):
        import_module(f"{__name__}.{one.name}")
