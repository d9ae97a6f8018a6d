"""The one path every record takes: decode, validate, and sort into what it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ingest.dead_letter import DeadLetter
from ingest.settings import IngestSettings
from ingest.validation import validate
from recsys import wire
from recsys.errors import InvalidInput
from recsys.interaction import Erasure
from recsys.interaction_topic.protocol import Delivered
from recsys.item import Item
from recsys.user_features import Positioned


@dataclass(frozen=True, slots=True)
class Batch:
    """Delivered messages, sorted by kind; each list keeps the order of delivery.

    `offsets` is the last offset per partition, refused messages included: what may be committed
    once every effect of the batch is in place.
    """

    interactions: list[Positioned] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    erasures: list[Positioned] = field(default_factory=list)
    rejected: list[DeadLetter] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)

    def by_user(self) -> Mapping[str, list[Positioned]]:
        """Interactions and erasures per user, in topic order within each partition."""
        users: defaultdict[str, list[Positioned]] = defaultdict(list)
        for record in sorted((*self.interactions, *self.erasures), key=lambda record: record.offset):
            users[record.message.user_id].append(record)
        return users


def decode_batch(messages: Sequence[Delivered], now: datetime, settings: IngestSettings) -> Batch:
    """Pure; never raises for a message's sake: what cannot be applied becomes a dead letter."""
    batch = Batch()
    for delivered in messages:
        batch.offsets[delivered.partition] = max(delivered.offset, batch.offsets.get(delivered.partition, -1))
        try:
            message = wire.decode(delivered.value)
            validate(message, now, settings)
        except InvalidInput as error:
            batch.rejected.append(
                DeadLetter(error.reason, error.field, delivered.partition, delivered.offset, delivered.value, now)
            )
            continue
        if isinstance(message, Item):
            batch.items.append(message)
        else:
            records = batch.erasures if isinstance(message, Erasure) else batch.interactions
            records.append(Positioned(delivered.partition, delivered.offset, message))
    return batch
