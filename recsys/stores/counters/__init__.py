"""Counters: running counts of a shadow."""

from recsys.stores.counters.protocol import COUNTER_TTL, CounterStore

__all__ = ["COUNTER_TTL", "CounterStore"]
