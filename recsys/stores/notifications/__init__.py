"""Notifications: word to other processes that something changed."""

from recsys.stores.notifications.protocol import ITEMS_CHANNEL, PLACEMENTS_CHANNEL, VERSIONS_CHANNEL, Notifications

__all__ = ["ITEMS_CHANNEL", "PLACEMENTS_CHANNEL", "VERSIONS_CHANNEL", "Notifications"]
