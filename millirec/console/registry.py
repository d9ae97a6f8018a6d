"""The pages of the console: each registers itself with `@page`, and the layout lists them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millirec.console.client import ApiClient

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
        if any(one.path == path or one.key == key for one in PAGES):
            raise ValueError(f"two pages want {path!r} or the key {key!r}")
        PAGES.append(Page(path, title, icon, key, order, build))
        PAGES.sort(key=lambda one: one.order)
        return build

    return register
