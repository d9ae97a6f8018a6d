"""Conversions: what users do with the answers they got, noted for the canary that runs."""

from collections.abc import Sequence

from recsys.feature_store import FeatureStore
from recsys.index_version import AliasMove
from recsys.interaction import Interaction
from recsys.rollout import Outcome
from recsys.user_features import Positioned


async def note_conversions(store: FeatureStore, canary: AliasMove | None, new_events: Sequence[Positioned]) -> None:
    """Mark the users of those `new_events` that are a success and came within the canary's present step.

    A mark that comes again changes nothing, so redelivery does no harm. Raises `StoreUnavailable`.
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
        await store.record_outcomes(rollout.experiment, {Outcome.CONVERTED: units})
