"""Conversions: what users do with the answers they got, noted for the canary that runs."""

from collections.abc import Sequence

from recsys.experiments.rollout import Outcome
from recsys.messages.interaction import Interaction
from recsys.models.manifest import AliasMove
from recsys.stores.outcomes import OutcomeStore
from recsys.users import PositionedMessage


async def note_conversions(
    store: OutcomeStore, canary: AliasMove | None, new_events: Sequence[PositionedMessage]
) -> None:
    """Mark the users of `new_events` that count as a success within the canary's current step.

    Repeated marks change nothing, so redelivery is harmless. Raises `StoreUnavailable`.
    """
    rollout = canary.rollout if canary else None
    if canary is None or rollout is None:
        return
    units = {
        rollout.unit(message.user_id)
        for message in (record.message for record in new_events)
        if isinstance(message, Interaction) and message.occurred_at >= canary.moved_at and rollout.counts(message)
    }
    if units:
        await store.record(rollout.experiment, {Outcome.CONVERTED: units})
