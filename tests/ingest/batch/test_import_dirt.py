"""Dirt: every raw row is accepted, merged or rejected with a reason; nothing is lost."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.batch.file_import import import_files
from ingest.batch.mapping import Mapping
from recsys.messages.item import Item
from tests.ingest.shop import SHOP_COLUMNS, SHOP_MAPPING, Shop, shop_frame

HEADER = "event_id,user_id,item_id,type,occurred_at,quantity,price\n"
GOOD = "e1,ada,lamp,view,2026-01-05T08:26:00Z,1,2.5\n"


def outcome_of(shop: Shop, line: str) -> dict[str, int]:
    report = shop.load(shop.file("file.csv", HEADER + GOOD + line + "\n"), None)
    assert report.counts.rows == 2
    assert report.counts.accepted + report.counts.merged + sum(report.counts.rejected.values()) == 2
    return report.counts.rejected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",ada,lamp,view,2026-01-05,1,1", "event_id is missing"),
        ("e2,,lamp,view,2026-01-05,1,1", "user_id is missing"),
        ("e2, ,lamp,view,2026-01-05,1,1", "user_id is missing"),
        ("e2,ada,,view,2026-01-05,1,1", "item_id is missing"),
        ("e2,ada,lamp,,2026-01-05,1,1", "type is missing"),
        ("e2,ada,lamp,view,,1,1", "occurred_at is missing"),
        (f"e2,{'a' * 129},lamp,view,2026-01-05,1,1", "user_id is longer than 128 characters"),
        ('e2,"a\nb",lamp,view,2026-01-05,1,1', "user_id has control characters"),
        ("e2,a\u2028b,lamp,view,2026-01-05,1,1", "user_id has control characters"),
        ("e2,ada,lamp,Big View,2026-01-05,1,1", "type does not match ^[a-z][a-z0-9_]{0,31}$"),
        ("e2,ada,lamp,view,yesterday,1,1", "occurred_at is no time"),
        ("e2,ada,lamp,view,2026-02-30,1,1", "occurred_at is no time"),
        ("e2,ada,lamp,view,1999-12-31,1,1", "occurred_at is before 2000-01-01"),
        ("e2,ada,lamp,view,2999-12-31,1,1", "occurred_at is in the future"),
        ("e2,ada,lamp,view,2026-01-05,0,1", "quantity is not above 0"),
        ("e2,ada,lamp,view,2026-01-05,-3,1", "quantity is not above 0"),
        ("e2,ada,lamp,view,2026-01-05,many,1", "quantity is no number"),
        ("e2,ada,lamp,view,2026-01-05,inf,1", "quantity is no number"),
        ("e2,ada,lamp,view,2026-01-05,2e9,1", "quantity is above 1e+09"),
        ("e2,ada,lamp,view,2026-01-05,1,-0.01", "price is negative"),
        ("e2,ada,lamp,view,2026-01-05,1,nan", "price is no number"),
        ("e2,ada,lamp,view", "has another number of fields than the header"),
        ("e2,ada,lamp,view,2026-01-05,1,1,extra", "has another number of fields than the header"),
    ],
)
def test_a_dirty_row_is_rejected_with_its_reason(line: str, reason: str, shop: Shop) -> None:
    assert outcome_of(shop, line) == {reason: 1}


@pytest.mark.parametrize(
    "line",
    [
        "e2,ada,lamp,view,2026-01-05,,",
        " e2 , ada , lamp , view , 2026-01-05 , 1 , 0 ",
        "e2,ada,lamp,view,2026-01-05T08:26:00+02:00,1.5,1e3",
        "e2,Zoë,лампа,shop_type_2,2026-01-05 08:26,1,1",
    ],
)
def test_a_row_that_is_only_untidy_is_accepted(line: str, shop: Shop) -> None:
    assert outcome_of(shop, line) == {}


def test_bytes_that_are_no_text_reject_their_row_only(shop: Shop) -> None:
    content = (HEADER + GOOD).encode() + b"e2,ad\xff,lamp,view,2026-01-05,1,1\n" + b"e3,bob,lamp,view,2026-01-06,1,1\n"
    report = shop.load(shop.file("file.csv", content), None)
    assert report.counts.rejected == {"has bytes that are not in the file's encoding": 1}
    assert shop.rows().get_column("event_id").to_list() == ["e1", "e3"]
    assert shop.rejected(report)[0]["raw"] == "e2,ad�,lamp,view,2026-01-05,1,1"


def test_a_line_that_is_no_object_rejects_its_row_only(shop: Shop) -> None:
    good = '{"event_id":"%s","user_id":"ada","item_id":"lamp","type":"view","occurred_at":"2026-01-05","price":2.50}'
    lines = [good % "e1", '{"event_id": "e2",', "", "[1, 2]", "x" * (3 << 20), good % "e3"]
    report = shop.load(shop.file("file.jsonl", "\n".join(lines)), None)
    assert (report.counts.rows, report.counts.accepted) == (5, 2)
    assert report.counts.rejected == {"is not a JSON object": 2, "is longer than 1,048,576 characters": 1}
    assert [row["row"] for row in shop.rejected(report)] == [2, 3, 4]


def test_an_unclosed_quote_cannot_swallow_the_file(shop: Shop) -> None:
    shop.import_rows = 1000
    rows = "".join(f"e{n},ada,lamp,view,2026-01-05T08:26:00Z,1,2.5\n" for n in range(2, 8000))
    report = shop.load(shop.file("file.csv", HEADER + GOOD + '"e2,oops\n' + rows), None)
    assert sum(report.counts.rejected.values()) >= 1
    assert report.counts.accepted > 4000


def test_a_rejected_row_is_kept_as_it_came_with_its_place_and_reason(shop: Shop) -> None:
    report = shop.load(shop.file("shop.csv", shop_frame().write_csv()))
    kept = shop.rejected(report)
    assert [(row["file"], row["row"], row["field"], row["reason"]) for row in kept] == [
        ("shop.csv", 5, "item_id", "not a product code"),
        ("shop.csv", 6, "invoice", "cancellation"),
        ("shop.csv", 7, "price", "price is not above 0"),
        ("shop.csv", 8, "user_id", "user_id is missing"),
    ]
    assert kept[3]["raw"] == {
        "invoice": "6", "product": "103", "name": "Café chair", "quantity": "4",
        "at": "2026-07-08T11:00:00", "price": "9.99", "customer": "",
    }  # fmt: skip


def test_a_row_with_several_problems_has_one_reason_and_counts_for_each(shop: Shop) -> None:
    rows = [("C1", "POST", "x", -1, "2026-01-05", 0.0, None), ("2", "POST", "x", 1, "2026-01-05", 1.0, None)]
    counts = shop.load(shop.file("shop.csv", shop_frame(rows).write_csv())).counts
    assert counts.rejected == {"cancellation": 1, "user_id is missing": 1}
    assert counts.problems == {
        "cancellation": 1,
        "user_id is missing": 2,
        "not a product code": 2,
        "quantity is not above 0": 1,
        "price is not above 0": 1,
    }


def test_rejected_rows_are_replayed_once_their_cause_is_mended(shop: Shop) -> None:
    first = shop.load(shop.file("shop.csv", shop_frame().write_csv()))
    assert first.rejected_rows is not None
    content = gzip.decompress(Path(first.rejected_rows).read_bytes()).decode()
    mended = content.replace('"customer":""', '"customer":"eve"').replace('"price":"0.0"', '"price":"7.5"')
    again = shop.load(shop.file("mended.jsonl", mended))
    assert (again.counts.rows, again.counts.accepted) == (4, 2)
    assert again.counts.rejected == {"not a product code": 1, "cancellation": 1}
    assert sorted(shop.rows().get_column("event_id")) == ["1-101", "1-102", "2-102", "5-103", "6-103", "7-103", "8-103"]


def test_rejected_rows_replayed_unmended_are_rejected_again(shop: Shop) -> None:
    first = shop.load(shop.file("shop.csv", shop_frame().write_csv()))
    assert first.rejected_rows is not None
    again = shop.load(Path(first.rejected_rows))
    assert again.counts.accepted == 0
    assert again.counts.rejected == first.counts.rejected


def test_the_first_of_rows_that_repeat_is_kept_as_it_stands(shop: Shop) -> None:
    rows: list[tuple[Any, ...]] = [
        ("1", "101", "Lamp", 6, "2026-01-05T10:00:00", 2.5, "ada"),
        ("1", "101", "Lamp", 2, "2026-01-05T10:00:00", 2.5, "ada"),
        ("1", "101", "Lamp", 9, "2026-01-05T10:00:00", 2.5, "bob"),
    ]
    counts = shop.load(shop.file("shop.csv", shop_frame(rows).write_csv())).counts
    assert (counts.accepted, counts.repeats, counts.known) == (2, 1, 0)
    assert shop.rows().select("user_id", "quantity").rows() == [("ada", 6.0), ("bob", 9.0)]


def test_without_an_event_id_rows_that_say_the_same_are_the_same(shop: Shop) -> None:
    lines = ["ada,lamp,view,2026-01-05", "ada,lamp,view,2026-01-05T00:00:00Z", "ada,lamp,view,2026-01-06"]
    report = shop.load(shop.file("file.csv", "user_id,item_id,type,occurred_at\n" + "\n".join(lines)), None)
    assert (report.counts.accepted, report.counts.repeats) == (2, 1)
    assert shop.rows().get_column("event_id").str.len_chars().to_list() == [32, 32]


@pytest.mark.parametrize(
    ("at", "zone", "how", "expected"),
    [
        ("2026-07-01 12:00", "Europe/London", None, "2026-07-01T11:00:00"),
        ("2026-07-01T12:00:00.25+02:00", "Europe/London", None, "2026-07-01T10:00:00.250"),
        ("2026-07-01T12:00:00Z", "Europe/London", None, "2026-07-01T12:00:00"),
        ("01/07/2026 12:00", "UTC", "%d/%m/%Y %H:%M", "2026-07-01T12:00:00"),
        ("2026-07-01T12:00:00", "UTC", "%d/%m/%Y %H:%M", "2026-07-01T12:00:00"),
        ("01/07/2026", "UTC", "%d/%m/%Y", "2026-07-01T00:00:00"),
        ("01/07/2026 12:00 +0200", "UTC", "%d/%m/%Y %H:%M %z", "2026-07-01T10:00:00"),
        ("1782907200", "UTC", "epoch_s", "2026-07-01T12:00:00"),
        ("1782907200250", "UTC", "epoch_ms", "2026-07-01T12:00:00.250"),
        ("2026-10-25 01:30", "Europe/London", None, "2026-10-25T00:30:00"),
        ("2026-03-29 01:30", "Europe/London", None, None),
    ],
)
def test_times_are_read_in_their_format_and_zone(
    at: str, zone: str, how: str | None, expected: str | None, shop: Shop
) -> None:
    given = {
        "interaction": {
            "user_id": {"value": "ada"}, "item_id": {"value": "lamp"}, "type": {"value": "view"},
            "occurred_at": {"column": "at", "time_zone": zone, "format": how},
        }
    }  # fmt: skip
    path = shop.file("file.csv", f"at,x\n{at},1\n")
    settings = shop.settings
    log = shop.log
    import_files([path], Mapping.model_validate(given), log, settings, moment=datetime(2027, 1, 1, tzinfo=UTC))
    moments = [at.replace(tzinfo=UTC) for at in shop.rows().get_column("occurred_at")]
    assert moments == ([] if expected is None else [datetime.fromisoformat(expected).replace(tzinfo=UTC)])


def test_an_items_file_fills_the_catalogue(shop: Shop) -> None:
    lines = [
        '{"item_id":"a","title":"Lamp","price":2.5,"categories":["light","home"],"available":true,"colour":"red"}',
        '{"item_id":"b","title":"Chair","available":"no","properties":{"material":"oak","weight":2.5}}',
        '{"item_id":"c","available":"perhaps"}',
        '{"title":"No id"}',
        '{"item_id":"a","price":3.0}',
    ]
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    path = shop.file("items.jsonl", "\n".join(lines))
    report = import_files([path], None, shop.log, shop.settings, moment=moment).files[0]
    assert report.counts.rejected == {"available is neither yes nor no": 1, "item_id is missing": 1}
    assert report.distinct["items"] == 2
    assert shop.log.items() == [
        Item(
            item_id="a",
            updated_at=moment + timedelta(microseconds=4),
            title="Lamp",
            price=3.0,
            categories=["light", "home"],
            available=True,
            properties={"colour": "red"},
        ),
        Item(
            item_id="b",
            updated_at=moment + timedelta(microseconds=1),
            title="Chair",
            available=False,
            properties={"material": "oak", "weight": "2.5"},
        ),
    ]


def test_titles_come_from_accepted_rows_the_latest_winning(shop: Shop) -> None:
    rows: list[tuple[Any, ...]] = [
        ("3", "101", "Lamp, new", 1, "2026-03-05", 3.0, "ada"),
        ("1", "101", "Lamp, old", 1, "2026-01-05", 2.0, "ada"),
        ("4", "101", "damaged", 1, "2026-04-05", 1.0, None),
        ("5", "101", " ", 1, "2026-05-05", 4.0, "bob"),
    ]
    shop.load(shop.file("shop.csv", shop_frame(rows).write_csv()), SHOP_MAPPING)
    assert [(item.title, item.price) for item in shop.log.items()] == [("Lamp, new", 4.0)]


def test_a_header_alone_is_an_import_of_nothing(shop: Shop) -> None:
    report = shop.load(shop.file("shop.csv", ",".join(SHOP_COLUMNS) + "\n"))
    assert (report.counts.rows, report.already_imported) == (0, False)
