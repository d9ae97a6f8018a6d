"""The contract of the dead letters, on every backend."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import LogUnavailable
from recsys.settings import LogSettings
from recsys.stores.dead_letters import DeadLetters, open_dead_letters
from recsys.stores.dead_letters.delta import DeltaDeadLetters
from recsys.stores.dead_letters.memory import MemoryDeadLetters
from recsys.stores.dead_letters.protocol import REPLAYED_HEADER, Content, DeadLetter, LetterQuery, Refusal, Status

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ALL = LetterQuery(status=None)


@pytest.fixture(params=["memory", "delta"])
def letters(request: pytest.FixtureRequest, tmp_path: Path) -> DeadLetters:
    return open_dead_letters(LogSettings(backend=request.param, path=str(tmp_path / "log")))


def refused(
    offset: int, value: bytes = b"\xff\x00", reason: str = "is not valid JSON", field: str = "message"
) -> Refusal:
    at = NOON + timedelta(minutes=offset)
    return Refusal(reason, field, "p-0", offset, value, at, key=f"user-{offset}", headers={"trace": b"\x00\xff"})


def again(letters: DeadLetters, letter: DeadLetter, offset: int = 900) -> Refusal:
    """Return the refusal of a replay of `letter` an hour later, where nothing has changed."""
    content = letters.content([letter])[letter.letter]
    headers = {**content.headers, **letter.replayed_header()}
    at = letter.last_seen + timedelta(hours=1)
    return Refusal("still wrong", letter.field, "p-1", offset, content.value, at, content.key, headers)


def only(letters: DeadLetters) -> DeadLetter:
    (one,) = letters.letters(ALL)
    return one


def test_no_letters_are_read_where_nothing_was_ever_refused(letters: DeadLetters) -> None:
    assert (letters.letters(ALL), letters.waiting(), letters.dead_letter([])) == ([], 0, [])
    letters.expire(NOON)


def test_a_letter_keeps_the_message_as_it_came(letters: DeadLetters) -> None:
    letters.dead_letter([refused(7, b"\xff\x00 raw")])
    one = only(letters)
    assert (one.status, one.partition, one.offset, one.size, one.times_seen) == (Status.WAITING, "p-0", 7, 6, 1)
    assert (one.reason, one.field, one.key) == ("is not valid JSON", "message", "user-7")
    assert one.first_seen == one.last_seen == NOON + timedelta(minutes=7)
    assert letters.content([one]) == {one.letter: Content("user-7", {"trace": b"\x00\xff"}, b"\xff\x00 raw")}


def test_a_redelivery_is_the_same_letter_and_was_not_seen_again(letters: DeadLetters) -> None:
    batch = [refused(offset) for offset in range(3)]
    assert letters.dead_letter(batch[:2]) == batch[:2]
    assert letters.dead_letter([replace(one, at=one.at + timedelta(hours=9)) for one in batch[:2]]) == []
    assert letters.dead_letter([batch[2], *batch]) == [batch[2], batch[2]]
    assert [(one.offset, one.times_seen, one.last_seen) for one in letters.letters(ALL)] == [
        (offset, 1, NOON + timedelta(minutes=offset)) for offset in (2, 1, 0)
    ]


def test_other_bytes_at_the_same_place_are_another_letter(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0, b"one"), refused(0, b"two")])
    assert letters.waiting() == 2


def test_a_replayed_letter_waits_no_more_until_it_is_refused_again(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0)])
    first = only(letters)
    letters.replayed([first], by="ops", at=NOON)
    replayed = only(letters)
    assert (replayed.status, replayed.by, replayed.changed_at, letters.waiting()) == ("replayed", "ops", NOON, 0)
    back = again(letters, first)
    assert letters.dead_letter([back]) == [back]
    assert letters.dead_letter([back]) == []
    second = only(letters)
    assert (second.letter, second.status, second.times_seen) == (first.letter, Status.WAITING, 2)
    assert (second.reason, second.partition, second.offset) == ("still wrong", "p-0", 0)
    assert (second.first_seen, second.last_seen) == (first.first_seen, first.last_seen + timedelta(hours=1))


def test_a_replay_that_was_sent_twice_comes_back_as_one(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0)])
    first = only(letters)
    letters.dead_letter([again(letters, first, 900), again(letters, first, 901)])
    letters.dead_letter([again(letters, first, 902)])
    assert only(letters).times_seen == 2


def test_what_came_back_before_its_replay_was_recorded_still_waits(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0)])
    first = only(letters)
    letters.dead_letter([again(letters, first)])
    letters.replayed([first], by="ops", at=NOON + timedelta(days=1))
    assert (only(letters).status, only(letters).times_seen) == (Status.WAITING, 2)


def test_a_discard_is_recorded_and_erases_the_message(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0), refused(1)])
    first, kept = sorted(letters.letters(ALL), key=lambda one: one.offset)
    letters.dead_letter([again(letters, first)])
    (second,) = letters.letters(LetterQuery(ids=[first.letter]))
    letters.discard([second], by="ops", comment="a test of the shop", at=NOON)
    letters.discard([second], by="ops", comment="a test of the shop", at=NOON)
    (gone,) = letters.letters(LetterQuery(status=Status.DISCARDED))
    assert (gone.by, gone.why, gone.key, gone.times_seen) == ("ops", "a test of the shop", None, 2)
    assert letters.content([gone, kept]).keys() == {kept.letter}
    assert letters.waiting() == 1


def test_a_letter_that_came_back_while_it_was_discarded_waits_with_its_message(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0)])
    first = only(letters)
    letters.dead_letter([again(letters, first)])
    letters.discard([first], by="ops", comment="given up", at=NOON)
    assert (only(letters).status, only(letters).key) == (Status.WAITING, "user-0")
    assert letters.content([first]).keys() == {first.letter}


def test_letters_are_found_by_what_is_known_of_them(letters: DeadLetters) -> None:
    future = [refused(offset, field="occurred_at", reason="2050 is in the Future") for offset in (3, 4)]
    letters.dead_letter([refused(0), refused(1, b"\x00"), *future])
    by_offset = {one.offset: one.letter for one in letters.letters(ALL)}

    def found(**conditions: object) -> list[int]:
        return [one.offset for one in letters.letters(replace(LetterQuery(), **conditions))]  # type: ignore[arg-type]

    assert found() == [4, 3, 1, 0]
    assert found(limit=2) == [4, 3]
    assert found(reason="in the future") == [4, 3]
    assert found(reason="(") == []
    assert found(field="message") == [1, 0]
    assert found(since=NOON + timedelta(minutes=1)) == [4, 3, 1]
    assert found(ids=[by_offset[1], by_offset[3][:12]]) == [3, 1]
    assert found(keys=["user-0", "nobody"]) == [0]
    assert found(field="message", reason="future") == []


def test_what_happened_long_ago_is_erased(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0), refused(1), refused(60)])
    letters.expire(NOON + timedelta(minutes=30))
    assert [one.offset for one in letters.letters(ALL)] == [60]
    assert letters.content(letters.letters(ALL))


def test_a_header_that_somebody_made_up_names_no_other_letter(letters: DeadLetters) -> None:
    letters.dead_letter([refused(0, b"secret")])
    forged = [b"", b"2", b"2 p-0:", b"0 p-0:0", b"2 p-0:99999999999999999999", b"x p-0:0", b"\xff", b"2 p-0:0"]
    strangers = [replace(refused(10 + n), headers={REPLAYED_HEADER: header}) for n, header in enumerate(forged)]
    letters.dead_letter(strangers)
    assert letters.waiting() == 1 + len(forged)
    (first,) = letters.letters(LetterQuery(keys=["user-0"]))
    assert (first.times_seen, letters.content([first])[first.letter].value) == (1, b"secret")


@given(
    st.builds(
        Refusal,
        reason=st.text(),
        field=st.text(),
        partition=st.from_regex(r"[a-zA-Z0-9._-]{1,200}-[0-9]{1,4}", fullmatch=True),
        offset=st.integers(0, 2**63 - 1),
        value=st.binary(),
        at=st.just(NOON),
        key=st.text(),
        headers=st.dictionaries(st.text(st.characters(codec="utf-8")), st.binary()),
    )
)
def test_any_bytes_come_out_as_they_went_in(refusal: Refusal) -> None:
    letters = MemoryDeadLetters()
    letters.dead_letter([refusal])
    one = only(letters)
    content = letters.content([one])[one.letter]
    assert (content.value, dict(content.headers)) == (refusal.value, dict(refusal.headers))
    back = again(letters, one)
    assert (back.letter, back.times_seen) == (refusal.letter, refusal.times_seen + 1)


def test_a_discarded_message_is_in_no_file_of_the_table(tmp_path: Path) -> None:
    letters = DeltaDeadLetters(str(tmp_path))
    letters.dead_letter([refused(0, b"4111 1111 1111 1111")])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"4111 1111 1111 1111" in path.read_bytes() for path in files)
    assert not any(b"user-0" in path.read_bytes() for path in files if path.suffix == ".json")
    letters.discard(letters.letters(ALL), by="ops", comment="a card number", at=NOON)
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"4111 1111 1111 1111" in content or b"user-0" in content for content in contents)


def test_a_discard_leaves_alone_what_another_writer_has_begun(tmp_path: Path) -> None:
    letters = DeltaDeadLetters(str(tmp_path))
    letters.dead_letter([refused(0)])
    begun = tmp_path / "dead_letters" / "part-00000-begun.parquet"
    begun.write_bytes(b"not committed yet")
    letters.discard(letters.letters(ALL), by="ops", comment="given up", at=NOON)
    assert begun.exists()


def test_writers_and_operators_at_once_lose_nothing(tmp_path: Path) -> None:
    def dead_letter(batch: int) -> None:
        letters = DeltaDeadLetters(str(tmp_path))
        for offset in range(4):
            letters.dead_letter([refused(10 * batch + offset), refused(1000 + offset)])

    def discard() -> None:
        letters = DeltaDeadLetters(str(tmp_path))
        for _ in range(4):
            letters.discard(letters.letters(LetterQuery(limit=1)), by="ops", comment="given up", at=NOON)

    threads = [threading.Thread(target=dead_letter, args=(batch,)) for batch in range(3)]
    threads += [threading.Thread(target=discard) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    letters = DeltaDeadLetters(str(tmp_path))
    found = letters.letters(ALL)
    assert sorted(one.offset for one in found) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23, *range(1000, 1004)]
    assert letters.content(found).keys() == {one.letter for one in found if one.status is Status.WAITING}


def test_a_table_that_cannot_be_reached_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "dead_letters").write_text("a file where a folder should be")
    letters = DeltaDeadLetters(str(tmp_path))
    with pytest.raises(LogUnavailable):
        letters.dead_letter([refused(0)])
