"""Placement: how answers for one place in the frontend are made; settings, the admin API and requests share it."""

from enum import StrEnum
from typing import Annotated

import msgspec

from recsys.errors import InvalidInput
from recsys.filters.expression import check_lengths, compile_named
from recsys.messages.interaction import TYPE_PATTERN, Timestamp, to_the_end
from recsys.messages.item import PropertyName

MAX_K = 500
ANY_TYPE = "*"
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"

SourceShare = Annotated[float, msgspec.Meta(gt=0, le=1000)]
Days = Annotated[float, msgspec.Meta(gt=0, le=36_500)]
SeenType = Annotated[str, msgspec.Meta(pattern=to_the_end(TYPE_PATTERN) + "|" + to_the_end(r"^\*$"))]
ExpressionText = Annotated[str, msgspec.Meta(max_length=2048)]
PlacementName = Annotated[str, msgspec.Meta(pattern=to_the_end(NAME_PATTERN))]


class Source(StrEnum):
    """Where candidates come from, and so where one recommended item came from."""

    PERSONAL = "personal"
    """Nearest to the user's vector."""
    SESSION = "session"
    """Nearest to a vector folded in from this visit and cart alone."""
    SIMILAR = "similar"
    """Nearest by cosine to the items of this visit, the cart, or the user's last ones."""
    CO_OCCURRENCE = "co_occurrence"
    """Most often bought together with those."""
    TRENDING = "trending"
    """Wanted more than usual within the last `trending_hours`."""
    NEW = "new"
    """Without interactions yet; placed by what they are (categories, text)."""
    POPULAR = "popular"
    """Wanted by most users."""


class Candidates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source and its share of the answer's places, relative to the other sources' shares."""

    source: Source
    share: SourceShare = 1.0


class Boost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of items that match `when` are multiplied by `factor` (divided where they are negative).

    With `context`, only for requests whose own context has these values.
    """

    when: ExpressionText
    factor: Annotated[float, msgspec.Meta(gt=0, le=100)]
    context: Annotated[dict[PropertyName, str], msgspec.Meta(max_length=16)] = {}


class Placement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are made. Everything off but `personal` and `popular`: the model's own ranking.

    `exclude_seen` leaves out what the user had before: days by interaction type, `*` for types not named.
    `diversity` (0 to 1) trades relevance for difference by MMR; `rotate_hours` moves items that were shown to
    the user (events of type `impression`) so lately behind the others; `min_score` drops personal items below it;
    `fallback` fills what is missing, in order. `trending_hours` is the window of `trending`.
    """

    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K)] = 10
    sources: Annotated[tuple[Candidates, ...], msgspec.Meta(min_length=1, max_length=8)] = (
        Candidates(Source.PERSONAL),
    )
    filter: ExpressionText = ""
    exclude_seen: Annotated[dict[SeenType, Days], msgspec.Meta(max_length=32)] = {}
    boosts: Annotated[tuple[Boost, ...], msgspec.Meta(max_length=16)] = ()
    diversity: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    max_per_category: Annotated[int, msgspec.Meta(ge=1, le=MAX_K)] | None = None
    rotate_hours: Annotated[float, msgspec.Meta(ge=0, le=8760)] = 0.0
    min_score: float | None = None
    fallback: Annotated[tuple[Source, ...], msgspec.Meta(max_length=8)] = (Source.POPULAR,)
    trending_hours: Annotated[float, msgspec.Meta(ge=1, le=168)] = 24.0
    properties: Annotated[tuple[PropertyName, ...], msgspec.Meta(max_length=64)] = ()

    def __post_init__(self) -> None:
        # Not by each boost itself: there may be thousands of them until it is known that they are too many.
        named = [("filter", self.filter)] if self.filter else []
        named += [(f"boosts.{position}.when", boost.when) for position, boost in enumerate(self.boosts) if boost.when]
        if named:
            try:
                check_lengths(named)
                compile_named(named)
            except InvalidInput as error:
                # msgspec reports a ValueError with the path of the struct it was raised for.
                raise ValueError(f"{error.field}: {error.reason}") from error

    @property
    def is_plain(self) -> bool:
        """One source in its own order: nothing that chooses among more candidates than are shown."""
        return (
            len(self.sources) == 1
            and not (self.boosts or self.diversity or self.rotate_hours)
            and self.max_per_category is None
        )


class PlacementChange(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a placement's append-only history; `None`: back to the configured or ready-made one."""

    name: PlacementName
    sequence: int
    changed_at: Timestamp
    actor: str
    placement: Placement | None


SEEN_EVER: dict[str, float] = {ANY_TYPE: 36_500.0}
READY_MADE: dict[str, Placement] = {
    "default": Placement(),
    "discover": Placement(exclude_seen=SEEN_EVER),
    "product": Placement(sources=(Candidates(Source.SIMILAR), Candidates(Source.CO_OCCURRENCE))),
    "cart": Placement(sources=(Candidates(Source.CO_OCCURRENCE, 2.0), Candidates(Source.SIMILAR))),
    "home": Placement(
        sources=(Candidates(Source.PERSONAL, 6.0), Candidates(Source.TRENDING, 2.0), Candidates(Source.NEW)),
        diversity=0.2,
        rotate_hours=12.0,
    ),
    "trending": Placement(sources=(Candidates(Source.TRENDING),)),
    "new": Placement(sources=(Candidates(Source.NEW),), fallback=()),
}
"""Answer without being configured; a configured placement of the same name takes their place."""
