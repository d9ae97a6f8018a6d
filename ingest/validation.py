"""What a well-formed record must still fulfil; well-formedness itself is `recsys.wire`'s."""

from datetime import datetime, timedelta

from ingest.settings import IngestSettings
from recsys.errors import InvalidInput
from recsys.item import Item
from recsys.wire import Message


def validate(message: Message, now: datetime, settings: IngestSettings) -> None:
    """Raises `InvalidInput` naming the field."""
    field = "updated_at" if isinstance(message, Item) else "occurred_at"
    at = message.updated_at if isinstance(message, Item) else message.occurred_at
    if at > now + timedelta(seconds=settings.future_tolerance):
        raise InvalidInput(field, f"{at.isoformat()} is in the future")
    if at < settings.earliest:
        raise InvalidInput(field, f"{at.isoformat()} is before {settings.earliest.date()}")
