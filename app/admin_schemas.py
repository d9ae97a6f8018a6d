"""HTTP bodies of users and placements, as msgspec Structs like those of `app.schemas`."""

import msgspec

from recsys.interaction import Id


class MergeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose interactions the user takes over: the id of the visit before the login."""

    source: Id = msgspec.field(name="from")
