"""POST /events and PUT /items: onto the topic, acknowledged before the answer."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, TypeVar
from uuid import uuid4

import msgspec
from starlette.types import Scope as Connection

from app.http.callers import Curating, Producing
from app.http.decoding import decode
from app.http.event_ids import HEADER, MAX_KEY_LENGTH, derived_id, idempotency_key
from app.http.openapi import header
from app.http.outline import count_entries
from app.http.problems import PartialFailure
from app.http.schemas.events import EventBody, EventsBody, ItemBody, ItemsBody, Receipt, Receipts
from app.http.services import Services
from app.http.typed_routes import JsonOf, TypedRouter
from app.metrics import EVENTS
from app.spool.producer import Destination, outgoing_of
from recsys.catalogue.catalogue import Catalogue
from recsys.errors import InvalidInput
from recsys.index.id_map import UNKNOWN
from recsys.messages.interaction import Interaction
from recsys.messages.item import Item, merged
from recsys.messages.validation import TimeSpan, span_at_door, validate
from recsys.messages.wire import Message
from recsys.stores.topic import Outgoing

router = TypedRouter(tag="interactions")
B = TypeVar("B", bound=msgspec.Struct)
PIECE = 16_384
"""Bytes of a batch that are looked at in one turn, with so many more for each entry:"""
ENTRY = 256
UNCOUNTED = 16_384
"""Commas in a list of entries that is decoded without counting them first: a millisecond."""


class _Lists(msgspec.Struct):
    """The body of a batch, whose lists are passed over until their entries were counted."""

    events: msgspec.Raw = msgspec.Raw()
    items: msgspec.Raw = msgspec.Raw()


@router.answers(
    "POST",
    "/events",
    status=202,
    example={"user_id": "17850", "item_id": "85123A", "type": "purchase", "event_id": "o-1"},
    headers=[header(HEADER, MAX_KEY_LENGTH, "the same key with the same body is the same events, whatever the time")],
)
async def post_events(
    services: Services,
    caller: Producing,
    connection: Connection,
    content: Annotated[bytes, JsonOf((EventBody, EventsBody))],
) -> Receipts:
    """One event, or up to 1,000 as `{"events": [...]}`; idempotent by `event_id`, or by `Idempotency-Key`.

    202 means: every receipt marked `accepted` is safely on the topic, or on this machine's disk to go there
    (`spooled`, where the service has a spool); a `rejected` one names the field that is wrong. 422 when none
    can be accepted. 503 with Retry-After and with receipts when not all could be kept, because the topic is down,
    too much waits for it or the spool is full: send the same request again. What was taken before is not counted
    twice, if every event has an `event_id` or an `occurred_at`, or the request an `Idempotency-Key`.
    """
    received_at = datetime.now(UTC)
    key = idempotency_key(connection["headers"], caller)

    def to_message(body: EventBody, position: int) -> Interaction:
        """The interaction for one event; `position` is its place in the request."""
        event_id = body.event_id or derived_id(body, key, position) or str(uuid4())
        return body.to_interaction(event_id, received_at)

    batch = _Batch(services, connection, content, "events", span_at_door(services.bounds, received_at))
    return await batch.publish(EventBody, to_message)


@router.answers("PUT", "/items", status=202, example={"item_id": "85123A", "available": False})
async def put_items(
    services: Services,
    _: Curating,
    connection: Connection,
    content: Annotated[bytes, JsonOf((ItemBody, ItemsBody))],
) -> Receipts:
    """Add or change one item, or up to 1,000 as `{"items": [...]}`; a field left out stays as it was.

    `available: false` hides an item from every answer within a second. A new item can be recommended
    from the next index version on. Of two updates the later by `updated_at` has the say. An update with more
    properties than the item has room for is rejected, or becomes a dead letter where others were on their way;
    nothing of it is applied.
    """
    received_at = datetime.now(UTC)
    live = services.live_index.current
    catalogue = None if live is None else live.catalogue

    def to_item(body: ItemBody, position: int) -> Item:
        """The change of one item; `position` is its place in the request."""
        # Each item gets a different time, so that of two updates the later one is known.
        return _with_room(body.to_item(received_at + timedelta(microseconds=position)), catalogue)

    batch = _Batch(services, connection, content, "items", span_at_door(services.bounds, received_at))
    return await batch.publish(ItemBody, to_item)


def _with_room(update: Item, catalogue: Catalogue | None) -> Item:
    """`update`, if its properties fit into the item as known here. Raises `InvalidInput`."""
    if update.properties and catalogue is not None:
        row = int(catalogue.rows([update.item_id])[0])
        merged(None if row == UNKNOWN else catalogue.item(row), update)
    return update


class _Batch:
    """The entries in the body of a request, or its only one, on their way to the topic; looked at in pieces."""

    def __init__(self, services: Services, connection: Connection, content: bytes, name: str, span: TimeSpan) -> None:
        self._services = services
        self._connection = connection
        self._content = content
        self._name = name
        self._span = span
        self._looked_at = 0

    async def publish(self, kind: type[B], to_message: Callable[[B, int], Message]) -> Receipts:
        """The receipts of all entries. Raises `InvalidInput` where all are wrong, and `Unavailable`."""
        # Before the work of decoding, so that turning many away costs little.
        self._services.producer.make_sure_of_room(len(self._content))
        listed: msgspec.Raw = getattr(decode(self._content, _Lists), self._name)
        raws = await self._entries(listed) if len(listed) else [self._content]
        decoded: list[Message | InvalidInput] = []
        outgoing: list[Outgoing] = []
        for position, raw in enumerate(raws):
            await self._work_on(len(raw) + ENTRY)
            prefix = f"{self._name}.{position}" if len(listed) else ""
            try:
                body = decode(raw, kind, prefix)
                message = _valid(body, partial(to_message, body, position), self._span, prefix)
                decoded.append(message)
                outgoing.append(outgoing_of(message))
            except InvalidInput as error:
                decoded.append(error)
        return await _send(self._services, decoded, outgoing)

    async def _work_on(self, size: int) -> None:
        """Wait until so many bytes more may be looked at: for the next turn where a piece has become long."""
        if self._looked_at > PIECE:
            await self._services.turns.turn(self._connection, next_piece=True)
            self._looked_at = 0
        self._looked_at += size

    async def _entries(self, listed: msgspec.Raw) -> Sequence[bytes | msgspec.Raw]:
        """The entries of a list, of which a bad one does not spoil the rest. Raises `InvalidInput`."""
        limit = self._services.settings.max_batch
        if bytes(listed).count(b",") > UNCOUNTED:
            for size in count_entries(self._name, listed, limit):
                await self._work_on(size)
        raws = decode(listed, list[msgspec.Raw], self._name)
        if not 1 <= len(raws) <= limit:
            raise InvalidInput(self._name, f"holds {len(raws)} entries, between 1 and {limit} are allowed")
        return raws


def _valid(body: msgspec.Struct, to_message: Callable[[], Message], span: TimeSpan, prefix: str) -> Message:
    """The message, checked by the same rules as the consumers'. Raises `InvalidInput`."""
    try:
        message = to_message()
        validate(message, span)
    except OverflowError as error:
        field = "updated_at" if isinstance(body, ItemBody) else "occurred_at"
        raise InvalidInput(_path(prefix, field), "is outside the range of dates") from error
    except InvalidInput as error:
        raise InvalidInput(_path(prefix, error.field), error.reason) from error
    return message


def _path(prefix: str, field: str) -> str:
    return f"{prefix}.{field}" if prefix else field


async def _send(
    services: Services, decoded: Sequence[Message | InvalidInput], outgoing: Sequence[Outgoing]
) -> Receipts:
    outcomes = iter(await services.producer.keep(outgoing))
    receipts: list[Receipt] = []
    errors: list[InvalidInput] = []
    retry_after = 0.0
    for entry in decoded:
        outcome = entry if isinstance(entry, InvalidInput) else next(outcomes)
        if isinstance(outcome, InvalidInput):
            errors.append(outcome)
            receipts.append(Receipt(None, "rejected", outcome.field, outcome.reason))
            continue
        assert not isinstance(entry, InvalidInput)  # noqa: S101
        identifier = entry.item_id if isinstance(entry, Item) else entry.event_id
        if isinstance(outcome, Destination):
            receipts.append(Receipt(identifier, "accepted", spooled=outcome is Destination.SPOOL))
        else:
            receipts.append(Receipt(identifier, "unavailable"))
            retry_after = max(retry_after, getattr(outcome, "retry_after", 1.0))
    counts = {
        status: sum(receipt.status == status for receipt in receipts)
        for status in ("accepted", "rejected", "unavailable")
    }
    for status, count in counts.items():
        EVENTS.labels(status).inc(count)
    if len(errors) == len(decoded):
        raise errors[0]
    if counts["unavailable"]:
        detail = f"{counts['accepted']} of {len(outgoing)} messages could be kept; send the same request again"
        raise PartialFailure(detail, retry_after, receipts)
    return Receipts(counts["accepted"], counts["rejected"], receipts)
