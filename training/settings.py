"""Settings of training."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from recsys.messages.interaction import DEFAULT_TYPE_WEIGHTS
from recsys.settings import Section


class Bound(StrEnum):
    """The bound of an interval that must reach the limit: the lower one requires proof, the upper one does not."""

    LOWER = "lower"
    UPPER = "upper"


class SegmentSettings(Section):
    """Segments of an evaluation: users by interactions before the held-out days, items by how many wanted them."""

    new_up_to: int = Field(5, ge=1, description="interactions up to which a user is new")
    light_up_to: int = Field(50, ge=1, description="interactions up to which a user is light; above, heavy")
    head: float = Field(0.2, gt=0, lt=1, description="share of the items, the most wanted ones, that is the head")


class GateSettings(Section):
    """Limits that a version must reach to be published; every reason for a refusal is listed (docs/gate.md)."""

    min_recall: float = Field(0.01, ge=0, le=1, description="floor of recall@20")
    min_ratio_to_popularity: float = Field(1.1, ge=0, description="recall@20 over that of popular items")
    max_drop_to_live: float = Field(
        0.1, ge=0, le=1, description="share of the live version's recall@20 on the same users that may be lost"
    )
    max_segment_drop: float = Field(0.25, ge=0, le=1, description="the same in one segment")
    max_lead_lost: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of the live version's lead over popular items, as measured when it was trained, that may "
        "be lost; holds where the live version has seen the held-out days, so that it cannot be asked again",
    )
    max_segment_lead_lost: float = Field(0.5, ge=0, le=1, description="the same in one segment")
    decides: Bound = Field(
        Bound.LOWER,
        description="which bound of the interval must reach what may be lost; `upper` for few users, whose interval "
        "is too wide to prove anything",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the intervals")
    bootstrap_samples: int = Field(1000, ge=100, le=100_000, description="times that users are drawn anew")
    seed: int = Field(20111209, ge=0)
    min_coverage: float = Field(0.01, ge=0, le=1, description="share of the catalogue that top-20 lists show")
    max_coverage_drop: float = Field(0.5, ge=0, le=1, description="share of the live version's that may be lost")
    max_popularity_lift: float = Field(
        5.0, description="how much more popular what is shown may be than what users had, 1 for twice as popular"
    )
    min_users: int = Field(20, ge=1, description="held-out users below which an evaluation says nothing")
    min_segment_users: int = Field(20, ge=2, description="users below which a segment is not judged")
    min_index_recall: float = Field(0.95, ge=0, le=1, description="recall@50 of the search index against exact search")
    max_megabytes: float = Field(20_000.0, gt=0, description="size of a version")
    max_growth: float = Field(3.0, gt=0, description="size over that of the live version")
    max_shrink: float = Field(0.2, ge=0, le=1, description="share of the last snapshot's interactions that may be gone")
    min_new_events: int = Field(2000, ge=1, description="events since the last snapshot below which they say nothing")
    max_unknown: float = Field(
        0.3, ge=0, le=1, description="share of new events on items that are neither known nor described"
    )
    max_type_shift: float = Field(0.3, ge=0, le=1, description="Jensen-Shannon divergence of types, new to old events")
    max_item_shift: float = Field(0.6, ge=0, le=1, description="the same of items")


class IndexSettings(Section):
    """The search index: what is tried, and what it must reach."""

    seed: int = Field(20111209, ge=0)
    min_recall: float = Field(0.98, gt=0, le=1, description="recall@50 against exact search, on users' vectors")
    sample: int = Field(300, ge=1, le=10_000, description="users whose vectors are searched with")
    hnsw_up_to: int = Field(
        200_000, ge=0, description="items up to which HNSW is tried: a million take minutes to build"
    )


class CooccurrenceSettings(Section):
    """Co-occurrence: items of one basket."""

    types: frozenset[str] = Field(
        frozenset({"purchase", "add_to_cart"}), description="interactions that fill a basket; every type where none did"
    )
    min_support: int = Field(3, ge=1, description="baskets that must hold both")
    neighbours: int = Field(50, ge=1, le=500, description="kept per item")
    max_basket: int = Field(100, ge=2, description="items of one basket that count")


class TrendingSettings(Section):
    """Items more in demand than usual when the log ends; later events are counted live."""

    hours: float = Field(168.0, gt=0, description="the window")
    usual_days: float = Field(28.0, gt=0, description="days before it that say what is usual")
    min_users: int = Field(3, ge=1, description="user-days in the window below which nothing trends")


class ColdStartSettings(Section):
    """Items that nobody has touched, placed by their categories and text."""

    min_items: int = Field(100, ge=10, description="described items with interactions, below which nothing is learned")
    max_items: int = Field(100_000, ge=0, description="cold items that join a version, the latest")


class TrainSettings(Section):
    """Learning, evaluation and publishing. The defaults were chosen on Online Retail (docs/quality.md)."""

    algorithm: str = Field(
        "als", pattern=r"^[a-z][a-z0-9_]{0,31}$", description="what learns item factors: `als` or `bpr`"
    )
    parameters: dict[str, bool | int | float | str] = Field(
        default_factory=dict,
        max_length=32,
        description="parameters of the algorithm: iterations; of `bpr` also learning_rate and regularization",
    )
    factors: int = Field(128, ge=1, le=1024, description="dimensions of user and item factors")
    regularization: float = Field(20.0, gt=0, description="of fold-in, and of ALS")
    alpha: float = Field(20.0, gt=0, description="confidence is 1 + alpha * weight of the interactions")
    half_life_days: float = Field(60.0, ge=0, description="an interaction weighs half after so long; 0: no decay")
    type_weights: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_TYPE_WEIGHTS), description="weight of one interaction by type"
    )
    other_weight: float = Field(0.2, gt=0, description="weight of types not named")
    history_length: int = Field(
        200, ge=1, le=10_000, description="newest interactions per user that make the vector, as in the feature store"
    )
    popularity_days: float = Field(14.0, gt=0, description="popular is what most users wanted in so many last days")
    holdout_days: float = Field(28.0, gt=0, description="the evaluation holds out so many last days")
    wanted_types: frozenset[str] = Field(
        frozenset(), description="interaction types that count as wanted in the held-out days; none: every type"
    )
    exclude_seen: bool = Field(
        False, description="evaluate lists without what the user had before; a shop sells the same thing twice"
    )
    min_interactions: int = Field(100, ge=1, description="below this there is nothing to learn from")
    seed: int = Field(20111209, ge=0)
    threads: int = Field(0, ge=0, description="0: all cores")
    lease_seconds: float = Field(
        120.0, ge=1, description="a trainer that died keeps others out for so long; one that lives renews in a third"
    )
    trigger_seconds: float = Field(60.0, gt=0, description="how often it is looked whether something calls for a run")
    gate: GateSettings = GateSettings()
    segments: SegmentSettings = SegmentSettings()
    index: IndexSettings = IndexSettings()
    cooccurrence: CooccurrenceSettings = CooccurrenceSettings()
    trending: TrendingSettings = TrendingSettings()
    cold_start: ColdStartSettings = ColdStartSettings()
    reports: Path = Field(Path("var/reports"), description="a folder for the HTML reports")
