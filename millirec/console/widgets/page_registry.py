"""The pages of the console: each registers itself with `@page`, and the layout lists them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millirec.console.service.client import ApiClient

Build = Callable[[ApiClient], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Page:
    """`key` is the single key that leads there; `order` its place in the navigation."""

    path: str
    title: str
    icon: str
    key: str
    order: int
    build: Build


PAGES: list[Page] = []


def page(path: str, *, title: str, icon: str, key: str, order: int) -> Callable[[Build], Build]:
    """Show what the decorated function builds at `path`, inside the layout, with a client of the person's own."""

    def register(build: Build) -> Build:
        """Add the page. Raises `ValueError` for a path or key that another page has."""
        if any(entry.path == path or entry.key == key for entry in PAGES):
            raise ValueError(f"two pages want {path!r} or the key {key!r}")
        PAGES.append(Page(path, title, icon, key, order, build))
        PAGES.sort(key=lambda entry: entry.order)
        return build

    return register
