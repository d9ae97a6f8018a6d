"""Items: the catalogue and the feed of its changes."""

from recsys.stores.items.protocol import ItemChanges, ItemStore

__all__ = ["ItemChanges", "ItemStore"]
