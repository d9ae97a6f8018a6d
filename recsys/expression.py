"""Expressions over items: what filters and boosts are written in."""

from dataclasses import dataclass

from recsys.item import Item


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression; equal texts are equal."""

    text: str

    def matches(self, item: Item | None) -> bool:
        raise NotImplementedError


def compile_expression(text: str) -> Expression:
    """Raises `InvalidInput` naming the field `filter`."""
    return Expression(text)
