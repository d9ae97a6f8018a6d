"""Trends: counts by hour and item."""

from recsys.stores.trends.protocol import KEPT_ITEMS, TrendStore

__all__ = ["KEPT_ITEMS", "TrendStore"]
