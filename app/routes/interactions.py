"""POST /events and PUT /items: onto the topic, acknowledged before the answer."""

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response

from app.dependencies import Curating, Producing, Services, Use, decode, decode_body, json_response
from app.interaction_producer import Kept
from app.metrics import EVENTS
from app.openapi import gives, takes
from app.schemas import EventBody, EventsBody, ItemBody, ItemsBody, Receipt, Receipts
from recsys.errors import InvalidInput, Unavailable
from recsys.interaction import FUTURE_TOLERANCE, Interaction
from recsys.item import Item, merged
from recsys.recommender import Catalogue
from recsys.recommender.id_map import UNKNOWN
from recsys.wire import Message

router = APIRouter(tags=["interactions"])
B = TypeVar("B", bound=msgspec.Struct)


class _Batch(msgspec.Struct):
    """A batch whose entries are looked at one by one, so that one bad entry does not spoil the rest."""

    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    items: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


@router.post(
    "/events",
    status_code=202,
    responses=gives(Receipts, 413, 422, 503, ok=202),
    response_class=Response,
    openapi_extra=takes(
        EventBody, EventsBody, example={"user_id": "17850", "item_id": "85123A", "type": "purchase", "event_id": "o-1"}
    ),
)
async def post_events(use: Use, _: Producing, request: Request) -> Response:
    """One event, or up to 1,000 as `{"events": [...]}`; idempotent by `event_id`.

    202 means: every receipt marked `accepted` is safely on the topic, or on this machine's disk to go there
    (`spooled`, where the service has a spool); a `rejected` one names the field that is wrong. 422 when none
    can be accepted. 503 with Retry-After when not all could be kept, because the topic is down, too much
    waits for it or the spool is full: send the same request again, what was taken before is not counted twice.
    """
    now = datetime.now(UTC)
    return await _publish(use, request, "events", EventBody, lambda body: _interaction(body, now))


@router.put(
    "/items",
    status_code=202,
    responses=gives(Receipts, 413, 422, 503, ok=202),
    response_class=Response,
    openapi_extra=takes(ItemBody, ItemsBody, example={"item_id": "85123A", "available": False}),
)
async def put_items(use: Use, _: Curating, request: Request) -> Response:
    """Add or change one item, or up to 1,000 as `{"items": [...]}`; a field left out stays as it was.

    `available: false` hides an item from every answer within a second. A new item can be recommended
    from the next index version on. An update with more properties than the item has room for is rejected, or becomes
    a dead letter where others were on their way; nothing of it is applied.
    """
    now, places = datetime.now(UTC), itertools.count()
    live = use.live_index.current
    catalogue = None if live is None else live.catalogue

    def to_item(body: ItemBody) -> Item:
        # A time of its own: of two updates of one moment nobody could tell the later.
        return _with_room(body.to_item(now + timedelta(microseconds=next(places))), catalogue)

    return await _publish(use, request, "items", ItemBody, to_item)


def _with_room(update: Item, catalogue: Catalogue | None) -> Item:
    """`update`, if it fits what is known of the item here. Raises `InvalidInput`."""
    if update.properties and catalogue is not None:
        row = int(catalogue.rows([update.item_id])[0])
        merged(None if row == UNKNOWN else catalogue.item(row), update)
    return update


def _interaction(body: EventBody, now: datetime) -> Interaction:
    if body.occurred_at is not None and body.occurred_at > now + timedelta(seconds=FUTURE_TOLERANCE):
        raise InvalidInput("occurred_at", f"lies more than {FUTURE_TOLERANCE:.0f} seconds in the future")
    try:
        return body.to_interaction(now)
    except OverflowError as error:
        raise InvalidInput("occurred_at", "is outside the range of dates") from error


async def _publish(
    use: Services, request: Request, name: str, kind: type[B], to_message: Callable[[B], Message]
) -> Response:
    # Before the work of decoding, so that turning many away costs little.
    use.producer.make_sure_of_room(len(await request.body()))
    batch = await decode_body(request, _Batch)
    entries = getattr(batch, name)
    single = entries is msgspec.UNSET
    raws: Sequence[msgspec.Raw | bytes] = [await request.body()] if single else entries
    if not 1 <= len(raws) <= use.settings.max_batch:
        raise InvalidInput(name, f"holds {len(raws)} entries, between 1 and {use.settings.max_batch} are allowed")
    decoded: list[Message | InvalidInput] = []
    for place, raw in enumerate(raws):
        try:
            decoded.append(to_message(decode(raw, kind, "" if single else f"{name}.{place}")))
        except InvalidInput as error:
            decoded.append(error)
    return await _send(use, decoded)


async def _send(use: Services, decoded: list[Message | InvalidInput]) -> Response:
    messages = [one for one in decoded if not isinstance(one, InvalidInput)]
    outcomes = iter(await use.producer.keep(messages))
    receipts: list[Receipt] = []
    errors: list[InvalidInput] = []
    retry_after = 0.0
    for one in decoded:
        outcome = one if isinstance(one, InvalidInput) else next(outcomes)
        if isinstance(outcome, InvalidInput):
            errors.append(outcome)
            receipts.append(Receipt(None, "rejected", outcome.field, outcome.reason))
            continue
        assert not isinstance(one, InvalidInput)  # noqa: S101
        identifier = one.item_id if isinstance(one, Item) else one.event_id
        if isinstance(outcome, Kept):
            receipts.append(Receipt(identifier, "accepted", spooled=outcome is Kept.SPOOL))
        else:
            receipts.append(Receipt(identifier, "unavailable"))
            retry_after = max(retry_after, getattr(outcome, "retry_after", 1.0))
    counts = {
        status: sum(one.status == status for one in receipts) for status in ("accepted", "rejected", "unavailable")
    }
    for status, count in counts.items():
        EVENTS.labels(status).inc(count)
    if len(errors) == len(decoded):
        raise errors[0]
    if counts["unavailable"]:
        detail = f"{counts['accepted']} of {len(messages)} messages could be kept; send the same request again"
        raise Unavailable(detail, retry_after)
    return json_response(Receipts(counts["accepted"], counts["rejected"], receipts), 202)
