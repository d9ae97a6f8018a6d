"""The path of every message: decode, validate, sort by kind, and on to a consumer group."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from recsys.errors import InvalidInput
from recsys.messages import envelope, wire
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.validation import span_on_topic, validate
from recsys.settings import TimeBounds
from recsys.stores.dead_letters.protocol import Refusal
from recsys.stores.topic.protocol import Delivered
from recsys.users import PositionedMessage


@dataclass(frozen=True, slots=True)
class Round:
    """What may be applied at once: records per user, and after these merges that share no user."""

    users: defaultdict[str, list[PositionedMessage]] = field(default_factory=lambda: defaultdict(list))
    merges: list[PositionedMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Delivered messages, sorted by kind; each list keeps the order of delivery.

    `offsets` is the last offset per partition, refused messages included: what may be committed
    once every effect of the batch is in place. `item_messages` are the messages of `items`; `crowded` are
    refusals of items that have no room, by position in `items`. `miskeyed` are messages whose key is not their user
    (or item): each is applied once, but in no defined order with the user's other events.
    """

    interactions: list[PositionedMessage] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    item_messages: list[Delivered] = field(default_factory=list)
    crowded: dict[int, Refusal] = field(default_factory=dict)
    erasures: list[PositionedMessage] = field(default_factory=list)
    merges: list[PositionedMessage] = field(default_factory=list)
    rejected: list[Refusal] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    miskeyed: list[Delivered] = field(default_factory=list)

    def refuse_items(self, refused: Mapping[int, InvalidInput], moment: datetime) -> None:
        """Refuse items that have no room in the stored item, by position in `items`; writers find out on merging."""
        for position, error in refused.items():
            self.crowded[position] = _refusal(self.item_messages[position], error, moment)

    @property
    def refusals(self) -> list[Refusal]:
        """Return every message of the batch that is not applied."""
        return [*self.rejected, *self.crowded.values()]

    def rounds(self) -> list[Round]:
        """Return all user records, in topic order within each partition; one round, unless users merge."""
        rounds: list[Round] = []
        reached: defaultdict[str, int] = defaultdict(int)
        for record in sorted((*self.interactions, *self.erasures, *self.merges), key=lambda record: record.offset):
            message = record.message
            number = reached[message.user_id]
            if isinstance(message, Merge):
                number = max(number, reached[message.into])
                reached[message.user_id] = reached[message.into] = number + 1
            while len(rounds) <= number:
                rounds.append(Round())
            if isinstance(message, Merge):
                rounds[number].merges.append(record)
            else:
                rounds[number].users[message.user_id].append(record)
        return rounds


def decode_batch(messages: Sequence[Delivered], moment: datetime, bounds: TimeBounds) -> Batch:
    """Decode and sort `messages`; a message that cannot be applied becomes a refusal, never an exception."""
    batch = Batch()
    span = span_on_topic(bounds, moment)
    for delivered in messages:
        batch.offsets[delivered.partition] = max(delivered.offset, batch.offsets.get(delivered.partition, -1))
        try:
            message = envelope.decode(delivered.value, delivered.headers)
            validate(message, span)
        except InvalidInput as error:
            batch.rejected.append(_refusal(delivered, error, moment))
            continue
        if delivered.key != wire.key_of(message):
            batch.miskeyed.append(delivered)
        match message:
            case Interaction():
                batch.interactions.append(PositionedMessage(delivered.partition, delivered.offset, message))
            case Item():
                batch.items.append(message)
                batch.item_messages.append(delivered)
            case Erasure():
                batch.erasures.append(PositionedMessage(delivered.partition, delivered.offset, message))
            case Merge():
                batch.merges.append(PositionedMessage(delivered.partition, delivered.offset, message))
    return batch


def _refusal(delivered: Delivered, error: InvalidInput, moment: datetime) -> Refusal:
    return Refusal(
        reason=error.reason,
        field=error.field,
        partition=delivered.partition,
        offset=delivered.offset,
        value=delivered.value,
        at=moment,
        key=delivered.key,
        headers=delivered.headers,
    )


class Group(Protocol):
    """A consumer group: applies batches of the topic and knows how far it has come."""

    @property
    def name(self) -> str:
        """Return the group's name, as used by the topic and the metrics."""
        ...

    @property
    def versions(self) -> Sequence[str]:
        """Return the index versions that events are folded into."""
        ...

    async def apply(self, batch: Batch) -> int:
        """Apply `batch` and return how many of its messages were applied before; idempotent.

        Raises `Unavailable` when the batch must be applied again.
        """
        ...

    async def watermarks(self, partitions: Collection[str]) -> Mapping[str, int]:
        """Return the last applied offset of each of `partitions`, where it is known. Raises `Unavailable`.

        A message at or below that offset counts as a repeat.
        """
        ...
