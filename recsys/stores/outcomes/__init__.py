"""Outcomes of rollouts, as bitmaps of units."""

from recsys.stores.outcomes.protocol import OUTCOME_TTL, OutcomeStore

__all__ = ["OUTCOME_TTL", "OutcomeStore"]
