"""decode_batch: every message ends up somewhere, refused ones with a reason."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.settings import IngestSettings
from ingest.stream import dead_letter
from ingest.stream.flow import decode_batch
from recsys.messages import avro, protobuf, wire
from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.schemas import DEAD_LETTER_HEADERS
from recsys.stores.topic.protocol import MAX_OFFSET, Delivered

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SETTINGS = IngestSettings()


def delivered(offset: int, value: bytes, partition: str = "p-0", **headers: bytes) -> Delivered:
    named = {name.replace("_", "-"): header for name, header in headers.items()}
    return Delivered(partition, offset, "ada", value, named, 0)


def view(user: str = "ada", at: datetime = NOW) -> Interaction:
    return Interaction(event_id="e", user_id=user, item_id="i", type="view", occurred_at=at)


def test_messages_are_sorted_by_kind_with_their_places() -> None:
    item = Item(item_id="i", updated_at=NOW, title="A lamp")
    erasure = Erasure(event_id="x", user_id="ada", occurred_at=NOW)
    messages: list[wire.Message] = [view(), item, erasure, view("bob")]
    batch = decode_batch([delivered(n, wire.encode(m)) for n, m in enumerate(messages)], NOW, SETTINGS)
    assert [(r.offset, r.message) for r in batch.interactions] == [(0, view()), (3, view("bob"))]
    assert [(r.offset, r.message) for r in batch.erasures] == [(2, erasure)]
    assert batch.items == [item]
    assert batch.rejected == []
    assert batch.offsets == {"p-0": 3}


def test_a_users_records_keep_their_order_with_erasures_in_between() -> None:
    erasure = Erasure(event_id="x", user_id="ada", occurred_at=NOW)
    messages: list[wire.Message] = [view(), erasure, view(), view("bob")]
    batch = decode_batch([delivered(n, wire.encode(m)) for n, m in enumerate(messages)], NOW, SETTINGS)
    assert [r.offset for r in batch.rounds()[0].users["ada"]] == [0, 1, 2]


def test_users_who_merge_are_applied_in_rounds_and_everybody_else_in_the_first() -> None:
    merge = Merge(event_id="m", user_id="anon", into="ada", occurred_at=NOW)
    messages: list[wire.Message] = [view("anon"), view(), merge, view("anon"), view(), view("bob"), merge]
    batch = decode_batch([delivered(n, wire.encode(m)) for n, m in enumerate(messages)], NOW, SETTINGS)
    first, second = batch.rounds()
    places = [
        ({user: [r.offset for r in records] for user, records in part.users.items()}, [r.offset for r in part.merges])
        for part in (first, second)
    ]
    assert places == [({"anon": [0], "ada": [1], "bob": [5]}, [2]), ({"anon": [3], "ada": [4]}, [6])]


def test_a_merge_of_a_user_into_itself_is_a_dead_letter() -> None:
    merge = Merge(event_id="m", user_id="ada", into="ada", occurred_at=NOW)
    batch = decode_batch([delivered(0, wire.encode(merge))], NOW, SETTINGS)
    assert (batch.merges, [letter.field for letter in batch.rejected]) == ([], ["into"])


def test_what_cannot_be_applied_becomes_a_dead_letter_and_its_offset_counts() -> None:
    future, ancient = view(at=NOW + timedelta(hours=1)), view(at=datetime(1999, 12, 31, tzinfo=UTC))
    values = [
        b"\xff\xfe not json",
        b'{"kind":"interaction","event_id":""}',
        wire.encode(future),
        wire.encode(ancient),
        wire.encode(view()),
        wire.encode(Item(item_id="i", updated_at=NOW + timedelta(days=1))),
    ]
    batch = decode_batch([delivered(n, value) for n, value in enumerate(values)], NOW, SETTINGS)
    assert [(letter.offset, letter.field) for letter in batch.rejected] == [
        (0, "message"),
        (1, "event_id"),
        (2, "occurred_at"),
        (3, "occurred_at"),
        (5, "updated_at"),
    ]
    assert [letter.value for letter in batch.rejected] == [*values[:4], values[5]]
    assert "in the future" in batch.rejected[2].reason
    assert "before 2000-01-01" in batch.rejected[3].reason
    assert batch.offsets == {"p-0": 5}


def test_a_clock_slightly_ahead_is_tolerated() -> None:
    batch = decode_batch([delivered(0, wire.encode(view(at=NOW + timedelta(seconds=299))))], NOW, SETTINGS)
    assert len(batch.interactions) == 1


def test_headers_say_how_a_message_is_read() -> None:
    version = str(wire.VERSION).encode()
    tracked = b'{"eventId":"e","userId":"ada","itemId":"i","eventType":"view","timestamp":1780315200}'
    messages = [
        delivered(0, wire.encode(view()), schema_version=version, content_type=b"application/json"),
        delivered(1, avro.encode(view()), schema_version=version, content_type=b"application/avro"),
        delivered(2, protobuf.encode(view()), schema_version=version, content_type=b"application/x-protobuf"),
        delivered(3, tracked),
    ]
    batch = decode_batch(messages, NOW, SETTINGS)
    assert [(record.offset, record.message) for record in batch.interactions] == [(n, view()) for n in range(4)]
    assert batch.rejected == []


def test_a_version_from_the_future_waits_with_its_headers_to_be_replayed() -> None:
    message = delivered(0, wire.encode(view()), schema_version=b"99")
    (letter,) = decode_batch([message], NOW, SETTINGS).rejected
    assert (letter.field, letter.headers) == ("schema-version", {"schema-version": b"99"})
    assert "replay" in letter.reason


def test_what_is_told_of_a_refused_message_is_what_is_published() -> None:
    (refusal,) = decode_batch([delivered(0, b"{}", other=b"kept")], NOW, SETTINGS).rejected
    assert dead_letter._outgoing(refusal).headers.keys() == DEAD_LETTER_HEADERS.keys() | {"other"}


def test_what_stands_under_a_wrong_key_is_applied_and_told() -> None:
    item = Item(item_id="i", updated_at=NOW)
    messages = [
        delivered(0, wire.encode(view())),
        delivered(1, wire.encode(view("bob"))),
        delivered(2, wire.encode(item)),
    ]
    batch = decode_batch(messages, NOW, SETTINGS)
    assert (len(batch.interactions), len(batch.items)) == (2, 1)
    assert batch.miskeyed == messages[1:]


@given(
    st.lists(
        st.builds(
            Delivered,
            partition=st.sampled_from(["p-0", "p-1"]),
            offset=st.integers(0, MAX_OFFSET),
            key=st.sampled_from(["", "ada"]),
            value=st.one_of(
                st.binary(max_size=60), st.sampled_from([wire.encode(view()), b"{}", b"[" * 5000, b'{"a":' * 5000])
            ),
            headers=st.dictionaries(
                st.sampled_from(["content-type", "schema-version", "other"]),
                st.sampled_from([b"", b"\xff", b"2", b"3", b"application/avro", b"application/x-protobuf"]),
            ),
            produced_at_ms=st.just(0),
        ),
        max_size=5,
    )
)
def test_no_message_raises_and_each_is_applied_or_refused(messages: list[Delivered]) -> None:
    batch = decode_batch(messages, NOW, SETTINGS)
    assert len(batch.interactions) + len(batch.rejected) == len(messages)
