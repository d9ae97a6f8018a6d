"""Users: a record each, changed by compare-and-set."""

from recsys.stores.users.protocol import UNREADABLE, UserStore

__all__ = ["UNREADABLE", "UserStore"]
