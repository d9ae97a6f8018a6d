"""HTTP bodies of users, items and placements, as msgspec Structs like those of `app.http.schemas.events`."""

from datetime import datetime

import msgspec

from recsys.messages.interaction import Id
from recsys.messages.item import PropertyValue
from recsys.recommender.placement import Placement, PlacementChange


class MergeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user whose interactions move to another one: the id of the visit before the login."""

    source: Id = msgspec.field(name="from")


class PlacementAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One placement; `origin` is `operator` (set at run time, by `actor`), `settings` or `ready-made`."""

    name: str
    origin: str
    placement: Placement
    changed_at: datetime | None = None
    actor: str | None = None


class PlacementsAnswer(msgspec.Struct, frozen=True):
    """The placements that requests can name."""

    placements: list[PlacementAnswer]


class PlacementHistory(msgspec.Struct, frozen=True):
    """Changes, oldest first; one without a placement removed the operator's setting."""

    name: str
    changes: list[PlacementChange]


class ItemAnswer(msgspec.Struct, frozen=True):
    """An item as this replica knows it; `trained` when `index_version` has learned its place from interactions."""

    item_id: str
    index_version: str
    trained: bool
    available: bool
    properties: dict[str, PropertyValue]


class ItemsAnswer(msgspec.Struct, frozen=True):
    """The items asked for, as this replica knows them."""

    items: list[ItemAnswer]
