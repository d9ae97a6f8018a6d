"""HTTP bodies, as msgspec Structs: decoded, encoded and documented (app.http.openapi) from one definition."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from recsys.messages.interaction import Id, Interaction, InteractionType, Timestamp
from recsys.messages.item import Item, PropertyName, PropertyValue, Text
from recsys.models.manifest import GateVerdict


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of request bodies: a misspelt field is an error that names it."""


class EventBody(Body, frozen=True):
    """One interaction. `event_id` makes a repeat harmless: send the same one again after a doubt.

    Without it the id is made of the request's `Idempotency-Key` and the place in it, else of all that the event says
    if it says `occurred_at`. With none of the three a retry is another event: the receipt names the id to use.
    """

    user_id: Id
    item_id: Id
    type: InteractionType
    event_id: Id | None = None
    occurred_at: Timestamp | None = None
    quantity: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = 1.0
    price: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    session_id: Id | None = None
    recommendation_id: Id | None = None

    def to_interaction(self, event_id: str, received_at: datetime) -> Interaction:
        """The event as an interaction in UTC; it occurred at `received_at` unless it says when."""
        return Interaction(
            event_id=event_id,
            user_id=self.user_id,
            item_id=self.item_id,
            type=self.type,
            occurred_at=(self.occurred_at or received_at).astimezone(UTC),
            quantity=self.quantity,
            price=self.price,
            session_id=self.session_id,
            recommendation_id=self.recommendation_id,
        )


class EventsBody(Body, frozen=True):
    """A list of events."""

    events: list[EventBody]


class ItemBody(Body, frozen=True):
    """One item, or what changes of it: a field left out stays as it was.

    `updated_at` (now, when left out) makes a repeat harmless: sent again it does not undo what came in between.
    """

    item_id: Id
    updated_at: Timestamp | None = None
    title: Text | None = None
    price: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    categories: Annotated[list[Text], msgspec.Meta(max_length=64)] | None = None
    available: bool | None = None
    properties: Annotated[dict[PropertyName, PropertyValue], msgspec.Meta(max_length=64)] | None = None

    def to_item(self, received_at: datetime) -> Item:
        """The change as an item in UTC, as of `received_at` unless it says when."""
        return Item(
            item_id=self.item_id,
            updated_at=(self.updated_at or received_at).astimezone(UTC),
            title=self.title,
            price=self.price,
            categories=self.categories,
            available=self.available,
            properties=self.properties,
        )


class ItemsBody(Body, frozen=True):
    """A list of items."""

    items: list[ItemBody]


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result for one event or item: `accepted`, `rejected` (see `field` and `reason`) or `unavailable`.

    `id` is the event's id, its own or a derived one: an event sent again with it counts once.
    `spooled`: accepted while the topic was down, and on its way there from a disk.
    """

    id: str | None
    status: str
    field: str | None = None
    reason: str | None = None
    spooled: bool = False


class Receipts(msgspec.Struct, frozen=True):
    """The number of messages accepted and rejected, and one receipt per message in the order of the request."""

    accepted: int
    rejected: int
    receipts: list[Receipt]


class RememberedInteraction(msgspec.Struct, frozen=True):
    """An interaction in the user's online history."""

    item_id: str
    type: str
    occurred_at: datetime


class UserAnswer(msgspec.Struct, frozen=True):
    """What is known of a user online, newest interaction first."""

    user_id: str
    known: bool
    revision: int
    in_snapshot: bool
    embedding_stored: bool
    interactions: list[RememberedInteraction]


class VersionAnswer(msgspec.Struct, frozen=True):
    """One version with the aliases that point to it and its metrics from training.

    `summary` says in a line what it is, `section` what only its `kind` has. `verdict`: null where no gate was asked.
    """

    model: str
    version: str
    kind: str
    created_at: datetime
    summary: str
    aliases: list[str]
    metrics: dict[str, float]
    verdict: GateVerdict | None
    section: dict[str, Any]


class VersionsAnswer(msgspec.Struct, frozen=True):
    """`serving` answers on this replica; `loaded` are in its memory and can be asked, `serving` first.

    Of a model that this replica does not answer from they are null and empty. `fallback`: why `serving` is not what
    the alias names.
    """

    serving: str | None
    loaded: list[str]
    versions: list[VersionAnswer]
    fallback: str | None = None


class ModelAnswer(msgspec.Struct, frozen=True):
    """A model, the kind of its newest version, and the version that its alias `live` names."""

    model: str
    kind: str | None
    versions: int
    live: str | None


class ModelsAnswer(msgspec.Struct, frozen=True):
    """Every model that anything was published of, by name."""

    models: list[ModelAnswer]


class MoveBody(Body, frozen=True):
    """The reason for moving an alias; it is kept in the history."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class MoveAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`cleared`: from then on the alias points nowhere; `version` is the one it left."""

    model: str
    alias: str
    version: str
    sequence: int
    moved_at: datetime
    actor: str
    reason: str
    cleared: bool = False


class MovesAnswer(msgspec.Struct, frozen=True):
    """Newest first."""

    moves: list[MoveAnswer]


class SpoolHealth(msgspec.Struct, frozen=True):
    """What this worker process holds back for the topic; all 0 while the topic is well."""

    messages: int
    bytes: int
    oldest_seconds: float


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """`spool` is there where one is configured, `fallback` where an earlier version answers than is to: why."""

    status: str
    index_version: str | None = None
    fallback: str | None = None
    spool: SpoolHealth | None = None


class FieldError(msgspec.Struct, frozen=True):
    """A field of the request, and what is wrong with it."""

    field: str
    reason: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details; `errors` names each field that is wrong.

    `receipts` say of each event or item of a request what became of it, where not all could be kept.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []
    receipts: list[Receipt] = []
