"""Bodies and query strings of the recommendation routes, as msgspec Structs."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from recsys.errors import InvalidInput
from recsys.experiments.rollout import Variant
from recsys.filters.expression import Expression, compile_expression
from recsys.messages.interaction import Id
from recsys.messages.item import PropertyName, PropertyValue
from recsys.models.manifest import VersionId
from recsys.recommender.explain import Why
from recsys.recommender.placement import MAX_K, Boost, ExpressionText, Placement
from recsys.recommender.query import Query
from recsys.recommender.stages.stage import Removed

MAX_IDS = 1000
MAX_USERS = 1000
MAX_CURSOR = 16_384

K = Annotated[int, msgspec.Meta(ge=1, le=MAX_K, description="how many items; the placement's number when unset")]
Ids = Annotated[list[Id], msgspec.Meta(max_length=MAX_IDS)]
UserId = Annotated[Id, msgspec.Meta(description="whom to recommend to; what is trending or popular when unset")]
PlacementName = Annotated[str, msgspec.Meta(max_length=64, description="a configured place in the frontend")]
SessionItems = Annotated[Ids, msgspec.Meta(description="items of this visit, the newest last")]
CartItems = Annotated[Ids, msgspec.Meta(description="items in the cart")]
Excluded = Annotated[Ids, msgspec.Meta(description="items to leave out")]
FilterText = Annotated[ExpressionText, msgspec.Meta(description="only items that match, such as `price < 20`")]
Diversity = Annotated[float, msgspec.Meta(ge=0, le=1, description="0: by relevance alone, 1: as different as can be")]
Properties = Annotated[
    list[PropertyName], msgspec.Meta(max_length=64, description="item properties to return, such as `title`")
]
Pages = Annotated[bool, msgspec.Meta(description="return a cursor for the next page")]
Cursor = Annotated[str, msgspec.Meta(max_length=MAX_CURSOR, description="of the page before; repeat the rest")]
Explain = Annotated[bool, msgspec.Meta(description="say of each item why it is there")]
Context = Annotated[
    dict[PropertyName, Annotated[str, msgspec.Meta(max_length=256)]],
    msgspec.Meta(max_length=16, description="of the visit, such as `device`: what boosts may depend on"),
]


class AnswerOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of requests: a misspelt field is an error that names it."""


class ListParams(AnswerOptions, frozen=True):
    """The query string of every list of items."""

    k: K | None = None
    filter: FilterText = ""
    properties: Properties | None = None


class TrendingParams(ListParams, frozen=True, kw_only=True):
    """The query string of `GET /trending`."""

    hours: Annotated[float, msgspec.Meta(ge=1, le=168, description="the window that ends now")] = 24.0


class RecommendParams(ListParams, frozen=True, kw_only=True):
    """The query string of `GET /recommend`. Lists repeat the name; `properties` may also be joined by commas."""

    user_id: UserId | None = None
    placement: PlacementName = "default"
    session_items: SessionItems = []
    cart_items: CartItems = []
    exclude: Excluded = []
    diversity: Diversity | None = None
    pages: Pages = False
    cursor: Cursor | None = None
    explain: Explain = False


class RecommendBody(RecommendParams, frozen=True, kw_only=True):
    """The body of `POST /recommend`. Without user, session and cart the answer has trending or popular items."""

    boosts: Annotated[list[Boost], msgspec.Meta(max_length=16)] | None = None
    context: Context = {}


class ItemsParams(AnswerOptions, frozen=True, kw_only=True):
    """The query string of `GET /items`; repeat the name for more than one."""

    item_id: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=500, description="which items")]


class BatchBody(ListParams, frozen=True, kw_only=True):
    """One question about many users."""

    users: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MAX_USERS)]
    placement: PlacementName = "default"
    exclude: Excluded = []


class ExplainBody(RecommendBody, frozen=True, kw_only=True):
    """Why `item_id` would or would not be in the answer to the rest."""

    item_id: Id


class PreviewBody(AnswerOptions, frozen=True, kw_only=True):
    """A placement to try out and the user to answer; defaults are those of `POST /recommend`."""

    placement: Placement
    version: VersionId | None = None
    user_id: UserId | None = None
    k: K | None = None
    session_items: SessionItems = []
    cart_items: CartItems = []
    context: Context = {}
    properties: Properties | None = None
    explain: Explain = False


class AnswerItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recommended item: its score, the source it came from, and what was asked for besides."""

    item_id: str
    score: float
    source: str
    properties: dict[str, PropertyValue] | None = None
    why: Why | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Items best first. `fallback_level` says how the answer came about; `degraded` that features could not be read.

    `short` says why there are fewer items than asked for; `cursor` asks for the next page. `variant` is there while
    a canary runs: which side of it the user is on.
    """

    recommendation_id: str
    index_version: str
    degraded: bool
    fallback_level: str
    items: list[AnswerItem]
    short: str | None = None
    cursor: str | None = None
    variant: Variant | None = None


class UserItems(msgspec.Struct, frozen=True, omit_defaults=True):
    """One user's part of a batch."""

    user_id: str
    fallback_level: str
    items: list[AnswerItem]
    short: str | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """The answers, in the order of `users`."""

    recommendation_id: str
    index_version: str
    degraded: bool
    answers: list[UserItems]


class ExplainAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`rank` counts from 1; an item that is not in the answer has `removed` instead."""

    item_id: str
    index_version: str
    fallback_level: str
    rank: int | None = None
    why: Why | None = None
    removed: Removed | None = None


def query_of(body: RecommendBody, placement: Placement, now_ms: int) -> Query:
    """The query for the recommender: the placement with the changes that the request makes."""
    boosts = placement.boosts if body.boosts is None else tuple(body.boosts)
    if boosts:
        boosts = tuple(boost for boost in boosts if boost.context.items() <= body.context.items())
    if body.diversity is not None or boosts != placement.boosts:
        diversity = placement.diversity if body.diversity is None else body.diversity
        placement = msgspec.structs.replace(placement, boosts=boosts, diversity=diversity)
    return Query(
        k=body.k or placement.k,
        user_id=body.user_id,
        session_items=tuple(body.session_items),
        cart_items=tuple(body.cart_items),
        exclude=tuple(body.exclude),
        filter=filter_of(body.filter),
        placement=placement,
        now_ms=now_ms,
    )


def filter_of(text: str) -> Expression | None:
    """The compiled filter, `None` for an empty text. Raises `InvalidInput` naming `filter`."""
    return compile_expression(text) if text else None


def known_placement(placements: Mapping[str, Placement], name: str) -> Placement:
    """The placement called `name`. Raises `InvalidInput` naming `placement` if there is none."""
    placement = placements.get(name)
    if placement is None:
        raise InvalidInput("placement", f"{name!r} is not one of {', '.join(sorted(placements))}")
    return placement
