"""An answer of the service as a list: each item with its score and source, and an explanation that can be opened."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient

Json = dict[str, Any]
TITLES = 500
"""Most titles that one request to the service asks for."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An item's rank (from 1) in this list and in the other list, `None` where that does not have it."""

    rank: int
    other_rank: int | None

    @property
    def words(self) -> str:
        """`only here`, `same place`, or by how many places it stands higher or lower here."""
        if self.other_rank is None:
            return "only here"
        if self.other_rank == self.rank:
            return "same place"
        return f"{abs(self.other_rank - self.rank)} {'higher' if self.rank < self.other_rank else 'lower'}"


def marks(items: Sequence[str], other_items: Sequence[str]) -> list[Mark]:
    """Return one mark per item of `items`."""
    ranks = {item: rank for rank, item in enumerate(other_items, 1)}
    return [Mark(rank, ranks.get(item)) for rank, item in enumerate(items, 1)]


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of the longer list that is in both; 1 for two empty ones."""
    longer = max(len(first), len(second))
    return len({*first} & {*second}) / longer if longer else 1.0


async def titles_of(api: ApiClient, ids: Iterable[str]) -> dict[str, str]:
    """Return titles by item id; an item without a title has its id, an unknown item is left out."""
    unique_ids = list(dict.fromkeys(ids))[:TITLES]
    if not unique_ids:
        return {}
    answer = await api.get("/items", item_id=unique_ids)
    return {item["item_id"]: item["properties"].get("title", item["item_id"]) for item in answer["items"]}


def ids_in(answers: Sequence[Json]) -> list[str]:
    """Return the ids of all items in these explained answers: those shown first, then those that contribute."""
    items = [item for answer in answers for item in answer["items"]]
    return [entry["item_id"] for entry in (*items, *(part for item in items for part in item["why"]["contributions"]))]


def title_of(item_id: str, titles: Mapping[str, str]) -> str:
    """Return an item's title, or its id without one."""
    return titles.get(item_id) or item_id


def answer_list(items: Sequence[Json], titles: Mapping[str, str], marks: Sequence[Mark] = ()) -> None:
    """Draw the items of an answer; an item with `why` can be opened.

    `marks`, one per item, say how each stands in another list.
    """
    with ui.column().classes("w-full gap-1"):
        for rank, item in enumerate(items, 1):
            mark = marks[rank - 1] if marks else None
            if "why" not in item:
                _line(rank, item, titles, mark)
                continue
            with ui.expansion().props('dense dense-toggle header-class="px-0"').classes("w-full") as opened:
                with opened.add_slot("header"):
                    _line(rank, item, titles, mark)
                _why(item["why"], titles)


def _line(rank: int, item: Json, titles: Mapping[str, str], mark: Mark | None) -> None:
    # In an expansion's header only a width that may shrink leaves room for its arrow.
    with ui.row().classes("w-full basis-0 grow min-w-0 items-center no-wrap gap-2"):
        ui.label(str(rank)).classes("w-6 shrink-0 text-right m-dim tabular-nums")
        with ui.column().classes("grow gap-0 min-w-0"):
            ui.label(title_of(item["item_id"], titles)).classes("truncate w-full")
            ui.label(f"{item['item_id']} · {item['source']}").classes("text-xs m-dim")
        if mark is not None:
            ui.badge(mark.words, color=_colour(mark)).props("outline").classes("shrink-0")
        ui.label(f"{item['score']:.3f}").classes("tabular-nums")


def _colour(mark: Mark) -> str:
    if mark.other_rank is None:
        return "deep-orange"
    return "grey" if mark.rank == mark.other_rank else "teal" if mark.rank < mark.other_rank else "light-blue-8"


def _why(explanation: Json, titles: Mapping[str, str]) -> None:
    ranks = " → ".join(f"{stage} {rank}" for stage, rank in explanation["ranks"].items())
    with ui.column().classes("w-full gap-1 sm:pl-8"):
        ui.label(f"From {explanation['source']}. Rank by stage: {ranks}.").classes("text-sm m-dim")
        for boost in explanation["boosts"]:
            ui.label(f"Boosted: {boost}").classes("text-sm")
        contributions(explanation["contributions"], titles)


def contributions(parts: Sequence[Json], titles: Mapping[str, str]) -> None:
    """Draw the user's own items and how much of the score each accounts for, as bars."""
    if not parts:
        ui.label("No single item of the user accounts for it.").classes("text-sm m-dim")
        return
    longest = max(abs(part["score"]) for part in parts) or 1.0
    with ui.element("div").classes("w-full grid gap-x-2 text-sm").style("grid-template-columns: 1fr 5rem 4rem"):
        for part in parts:
            ui.label(title_of(part["item_id"], titles)).classes("truncate")
            with ui.element("div").classes("self-center h-2 w-full"):
                colour = "bg-primary" if part["score"] >= 0 else "bg-negative"
                ui.element("div").classes(f"h-2 {colour}").style(f"width: {abs(part['score']) / longest:.0%}")
            ui.label(f"{part['score']:+.3f}").classes("text-right tabular-nums")
