"""POST /events and PUT /items: onto the topic, acknowledged before the answer."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Request, Response

from app.http.dependencies import Curating, Producing, Services, Use, decode, decode_body, json_response
from app.http.event_ids import HEADER, MAX_KEY_LENGTH, derived_id, idempotency_key
from app.http.openapi import gives, heeds, takes
from app.http.outline import count_entries
from app.http.problems import PartialFailure
from app.http.schemas.events import EventBody, EventsBody, ItemBody, ItemsBody, Receipt, Receipts
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

router = APIRouter(tags=["interactions"])
B = TypeVar("B", bound=msgspec.Struct)
PIECE = 16_384
"""Bytes of a batch that are looked at in one turn, with so many more for each entry:"""
ENTRY = 256
UNCOUNTED = 16_384
"""Commas in a list of entries that is decoded without counting them first: a millisecond."""


class _Batch(msgspec.Struct):
    """A batch, whose lists are passed over until their entries were counted."""

    events: msgspec.Raw = msgspec.Raw()
    items: msgspec.Raw = msgspec.Raw()


@router.post(
    "/events",
    status_code=202,
    responses=gives(Receipts, 413, 422, 503, ok=202),
    response_class=Response,
    openapi_extra=takes(
        EventBody, EventsBody, example={"user_id": "17850", "item_id": "85123A", "type": "purchase", "event_id": "o-1"}
    )
    | heeds(HEADER, MAX_KEY_LENGTH, "the same key with the same body is the same events, whatever the time"),
)
async def post_events(services: Use, caller: Producing, request: Request) -> Response:
    """One event, or up to 1,000 as `{"events": [...]}`; idempotent by `event_id`, or by `Idempotency-Key`.

    202 means: every receipt marked `accepted` is safely on the topic, or on this machine's disk to go there
    (`spooled`, where the service has a spool); a `rejected` one names the field that is wrong. 422 when none
    can be accepted. 503 with Retry-After and with receipts when not all could be kept, because the topic is down,
    too much waits for it or the spool is full: send the same request again. What was taken before is not counted
    twice, if every event has an `event_id` or an `occurred_at`, or the request an `Idempotency-Key`.
    """
    received_at = datetime.now(UTC)
    key = idempotency_key(request.scope["headers"], caller)

    def to_message(body: EventBody, position: int) -> Interaction:
        """The interaction for one event; `position` is its place in the request."""
        event_id = body.event_id or derived_id(body, key, position) or str(uuid4())
        return body.to_interaction(event_id, received_at)

    return await _publish(
        services, request, "events", EventBody, to_message, span_at_door(services.bounds, received_at)
    )


@router.put(
    "/items",
    status_code=202,
    responses=gives(Receipts, 413, 422, 503, ok=202),
    response_class=Response,
    openapi_extra=takes(ItemBody, ItemsBody, example={"item_id": "85123A", "available": False}),
)
async def put_items(services: Use, _: Curating, request: Request) -> Response:
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

    return await _publish(services, request, "items", ItemBody, to_item, span_at_door(services.bounds, received_at))


def _with_room(update: Item, catalogue: Catalogue | None) -> Item:
    """`update`, if its properties fit into the item as known here. Raises `InvalidInput`."""
    if update.properties and catalogue is not None:
        row = int(catalogue.rows([update.item_id])[0])
        merged(None if row == UNKNOWN else catalogue.item(row), update)
    return update


async def _publish(
    services: Services,
    request: Request,
    name: str,
    kind: type[B],
    to_message: Callable[[B, int], Message],
    span: TimeSpan,
) -> Response:
    # Before the work of decoding, so that turning many away costs little.
    services.producer.make_sure_of_room(len(await request.body()))
    pieces = _Pieces(services, request)
    listed: msgspec.Raw = getattr(await decode_body(request, _Batch), name)
    single = not len(listed)
    raws = [await request.body()] if single else await _entries(name, listed, services.settings.max_batch, pieces)
    decoded: list[Message | InvalidInput] = []
    outgoing: list[Outgoing] = []
    for position, raw in enumerate(raws):
        await pieces.work_on(len(raw) + ENTRY)
        prefix = "" if single else f"{name}.{position}"
        try:
            body = decode(raw, kind, prefix)
            message = _valid(body, partial(to_message, body, position), span, prefix)
            decoded.append(message)
            outgoing.append(outgoing_of(message))
        except InvalidInput as error:
            decoded.append(error)
    return await _send(services, decoded, outgoing)


class _Pieces:
    """The work on a batch, which waits for its next turn where a piece has become long."""

    def __init__(self, services: Services, request: Request) -> None:
        self._services = services
        self._request = request
        self._looked_at = 0

    async def work_on(self, size: int) -> None:
        """Wait until so many bytes more may be looked at."""
        if self._looked_at > PIECE:
            await self._services.turns.turn(self._request.scope, next_piece=True)
            self._looked_at = 0
        self._looked_at += size


async def _entries(name: str, listed: msgspec.Raw, limit: int, pieces: _Pieces) -> Sequence[bytes | msgspec.Raw]:
    """The entries of a batch, of which a bad one does not spoil the rest. Raises `InvalidInput`."""
    if bytes(listed).count(b",") > UNCOUNTED:
        for size in count_entries(name, listed, limit):
            await pieces.work_on(size)
    raws = decode(listed, list[msgspec.Raw], name)
    if not 1 <= len(raws) <= limit:
        raise InvalidInput(name, f"holds {len(raws)} entries, between 1 and {limit} are allowed")
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
) -> Response:
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
    return json_response(Receipts(counts["accepted"], counts["rejected"], receipts), 202)
