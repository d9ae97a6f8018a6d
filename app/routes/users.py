"""GET and DELETE /users/{id}, the receipt of an erasure, POST /users/{id}/merge."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

import msgspec
import structlog
from fastapi import Path

from app.http.callers import CaringForUsers
from app.http.schemas.admin import MergeBody
from app.http.schemas.events import Receipt, Receipts, RememberedInteraction, UserAnswer
from app.http.services import Services
from app.http.typed_routes import TypedRouter
from app.routes.recommendations import Id
from recsys.errors import InvalidInput, NotFound, RegistryUnavailable
from recsys.messages.interaction import MAX_ID_LENGTH, Erasure, Merge, epoch_ms, from_epoch_ms
from recsys.stores.receipts import ErasureReceipt, forgotten

log = structlog.get_logger()
ReceiptId = Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH, description="as DELETE gave it")]
router = TypedRouter("/users", tag="users")


@router.answers("GET", "/{user_id}")
async def get_user(services: Services, _: CaringForUsers, user_id: Id) -> UserAnswer:
    """The online features of a user with their interactions, newest first. An unknown user is no error."""
    live = services.answerer.live()
    features = (await services.stores.users.read([user_id], live.index.version))[0]
    return UserAnswer(
        user_id=user_id,
        known=features.revision > 0,
        revision=features.revision,
        in_snapshot=live.index.snapshot(user_id) is not None,
        embedding_stored=live.index.version in features.embeddings,
        interactions=[
            RememberedInteraction(entry.item_id, entry.type, from_epoch_ms(entry.at_ms))
            for entry in reversed(features.history)
        ],
    )


@router.answers("DELETE", "/{user_id}", status=202)
async def delete_user(services: Services, _: CaringForUsers, user_id: Id) -> Receipts:
    """Erase a user. The erasure follows their earlier events on the topic, so that none of them comes back.

    202 means the request is safely kept; features go as soon as the consumer reaches it, the next index
    version learns nothing from them. The receipt's id is the erasure's event id: ask for it under
    `/users/{user_id}/erasures/{receipt}`.
    """
    erasure = Erasure(event_id=f"erasure-{uuid4()}", user_id=user_id, occurred_at=datetime.now(UTC))
    answer = await _send(services, erasure)
    try:
        await services.watcher.ask(services.receipts.request, erasure.event_id, user_id, erasure.occurred_at)
    except RegistryUnavailable as error:
        # The erasure is on its way all the same; the maintenance of the log adds the receipt later.
        log.warning("the receipt of an erasure comes later", receipt=erasure.event_id, error=str(error))
    return answer


@router.answers("GET", "/{user_id}/erasures/{receipt}", 404)
async def get_erasure(services: Services, _: CaringForUsers, user_id: Id, receipt: ReceiptId) -> ErasureReceipt:
    """The state of an erasure and its times: proof for the user who requested it.

    `features_removed_at` is when it was first seen that nothing from before the erasure is left online. Rows of the
    interaction log are hidden from the moment the consumer reached the erasure; `rows` of them were deleted at
    `rows_deleted_at`, and the files of older versions that held them at `files_deleted_at`.
    """
    record = await services.watcher.ask(services.receipts.of, receipt, user_id)
    if record is None:
        raise NotFound("erasure receipt", receipt)
    if record.features_removed_at is None:
        [features] = await services.stores.users.load([user_id])
        if forgotten(features, epoch_ms(record.requested_at)):
            removed_at = datetime.now(UTC)
            await services.watcher.ask(services.receipts.note, "features", receipt, removed_at)
            record = msgspec.structs.replace(record, features_removed_at=removed_at)
    return record


@router.answers("POST", "/{user_id}/merge", status=202, example={"from": "anonymous-8f3a"})
async def merge_user(services: Services, _: CaringForUsers, user_id: Id, body: MergeBody) -> Receipts:
    """Move all interactions of `from` to this user, after a login; `from` becomes an unknown user.

    It takes its place on the topic behind everything that `from` did before; what `from` does later stays with
    `from`, until the next merge. Safe to repeat. The receipt's id is the merge's event id.
    """
    if body.source == user_id:
        raise InvalidInput("from", "is the user itself")
    occurred_at = datetime.now(UTC)
    return await _send(
        services, Merge(event_id=f"merge-{uuid4()}", user_id=body.source, into=user_id, occurred_at=occurred_at)
    )


async def _send(services: Services, message: Erasure | Merge) -> Receipts:
    failure = (await services.producer.send([message]))[0]
    if failure is not None:
        raise failure
    return Receipts(1, 0, [Receipt(message.event_id, "accepted")])
