"""Files made to bring an import down: each is refused with a sentence, or each of its rows is accounted for."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest
from backports import zstd

from ingest.batch.mapping import Mapping, read_mapping
from recsys.errors import InvalidInput
from recsys.stores.event_log.memory import MemoryInteractionLog
from tests.ingest.shop import Shop

HEADER = "event_id,user_id,item_id,type,occurred_at\n"
GOOD = "e1,ada,lamp,view,2026-01-05T08:26:00Z\n"
OBJECT = '{"event_id":"%s","user_id":"ada","item_id":"lamp","type":"view","occurred_at":"2026-01-05"}'
GENEROUS = 1200
"""Megabytes that an import may take at its peak, of which a third is the libraries."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, MemoryInteractionLog(), import_rows=50_000)


# Rows


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a":' * 500 + "1" + "}" * 500,
        '{"file":"f","row":1,"field":"","reason":"r","raw":' + '{"a":' * 400 + "1" + "}" * 401,
    ],
    ids=["lists", "objects", "objects that decode", "in a rejected row"],
)
def test_a_line_nested_deeply_is_rejected_as_a_row_and_kept_as_it_came(shop: Shop, hostile: str) -> None:
    lines = [OBJECT % "e1", hostile, OBJECT % "e3"]
    report = shop.load(shop.file("file.jsonl", "\n".join(lines)), None)
    assert (report.counts.rows, report.counts.accepted) == (3, 2)
    (kept,) = shop.rejected(report)
    assert kept["row"] == 2
    assert kept["raw"] == hostile
    assert kept["reason"] in {"is nested more than 32 deep", "is not a JSON object"}


@pytest.mark.parametrize("depth", [20, 32])
def test_what_is_nested_as_people_do_is_taken(shop: Shop, depth: int) -> None:
    nested = '{"a":' * (depth - 1) + "1" + "}" * (depth - 1)
    report = shop.load(shop.file("file.jsonl", (OBJECT % "e1")[:-1] + f',"deep":{nested}}}'), None)
    assert report.counts.accepted == 1


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        ((OBJECT % "e2")[:-1] + ',"#row":"7"}', "has a field named '#row'"),
        ("{" + ",".join(f'"c{n}":1' for n in range(3000)) + "}", "has more than 2,000 columns"),
        ('{"a":"' + "x" * (2 << 20) + '"}', "is longer than 1,048,576 characters"),
        ('{"a":' + "1" * 10_000 + "}", "is not a JSON object"),
        ('{"":1,"\\u0000":"\\u0000"}', "event_id is missing"),
        ('{"a":' + "[" * 900 + "]" * 900 + "}", "event_id is missing"),
        ("\x00" * 1000, "is not a JSON object"),
        ('{"a":1,"a":2', "is not a JSON object"),
    ],
    ids=["row number", "columns", "length", "digits", "empty names", "nested lists", "NUL bytes", "half an object"],
)
def test_a_hostile_object_is_rejected_for_itself(shop: Shop, hostile: str, reason: str) -> None:
    # Behind the rows that the columns are taken from.
    lines = [OBJECT % f"e{n}" for n in range(1000, 2000)] + [hostile, OBJECT % "last"]
    report = shop.load(shop.file("file.jsonl", "\n".join(lines)), None)
    assert (report.counts.rows, report.counts.accepted) == (1002, 1001)
    (kept,) = shop.rejected(report)
    assert kept["reason"].startswith(reason)


@pytest.mark.parametrize(
    "hostile",
    [
        f"e2,ada,lamp,view,2026-01-05{'x' * (2 << 20)}",
        f"e2,ada,{','.join(['y' * 100_000] * 11)}",
        f"e2,{'u' * 200_000},lamp,view,2026-01-05",
        f"e2,{'z' * 120_000},{'z' * 120_000},view,{'2' * 120_000}" + ",1" * 400_000,
        "e2,\x00ada,lamp,view,2026-01-05",
        "\x00" * 5000,
    ],
    ids=["an endless field", "eleven long fields", "one long field", "fields without end", "a NUL byte", "NUL bytes"],
)
def test_a_hostile_line_is_rejected_for_itself(shop: Shop, hostile: str) -> None:
    report = shop.load(shop.file("file.csv", f"{HEADER}{GOOD}{hostile}\n{GOOD.replace('e1', 'e3')}"), None)
    assert (report.counts.rows, report.counts.accepted) == (3, 2)
    assert sum(report.counts.rejected.values()) == 1


@pytest.mark.parametrize(
    "cell",
    ["[oops", "[" * 900 + "]" * 900, "[" * 120_000, '[{"a":1}]', "[1,[2]]"],
    ids=["no", "deep", "open", "objects", "lists"],
)
def test_a_cell_that_begins_as_a_list_and_is_none_rejects_its_row_only(shop: Shop, cell: str) -> None:
    cells = ["tea|garden", '"[""tea"",1,true]"', '"' + cell.replace('"', '""') + '"']
    rows = "".join(f"i{n},{cell}\n" for n, cell in enumerate(cells))
    report = shop.load(shop.file("items.csv", f"item_id,categories\n{rows}"), None)
    assert report.counts.rejected == {"categories is no list": 1}
    assert [item.categories for item in shop.log.items()] == [["tea", "garden"], ["tea", "1", "true"]]


@pytest.mark.parametrize("epoch", ["9e300", "-9e18", "9223372036854775807", "9000000000000", "nan", "1" * 400])
def test_a_time_beyond_all_calendars_rejects_its_row_only(shop: Shop, epoch: str) -> None:
    at = {"column": "occurred_at", "format": "epoch_s", "time_zone": "Europe/London"}
    names = {name: name for name in ("event_id", "user_id", "item_id", "type")}
    mapping = Mapping.model_validate({"interaction": {**names, "occurred_at": at}})
    rows = f"e1,ada,lamp,view,1767600000\ne2,ada,lamp,view,{epoch}\n"
    report = shop.load(shop.file("file.csv", HEADER + rows), mapping)
    assert (report.counts.rows, report.counts.accepted) == (2, 1)


def test_a_row_group_of_equal_long_values_is_rejected_row_by_row(shop: Shop, tmp_path: Path) -> None:
    row = {"event_id": "e", "user_id": "ada", "item_id": "lamp", "type": "view", "occurred_at": "2026-01-05"}
    rows = pl.DataFrame({name: [value] * 40 for name, value in row.items()})
    rows = rows.with_columns(pl.lit("x" * (2 << 20)).alias("note"), pl.int_range(40).cast(pl.String).alias("event_id"))
    rows.write_parquet(tmp_path / "file.parquet")
    assert (tmp_path / "file.parquet").stat().st_size < (4 << 20)
    report = shop.load(tmp_path / "file.parquet", None)
    assert report.counts.rejected == {"is longer than 1,048,576 characters": 40}


# Files


def wide(names: int) -> str:
    return ",".join(f"c{n}" for n in range(names))


def test_many_columns_are_refused_at_once(shop: Shop, tmp_path: Path) -> None:
    files = [
        shop.file("wide.csv", f"{wide(150_000)}\n{wide(150_000)}\n"),
        shop.file("wide.jsonl", "\n".join(f'{{"k{n}":1,"l{n}":2,"m{n}":3}}' for n in range(900))),
        tmp_path / "wide.parquet",
    ]
    pl.DataFrame({f"c{n}": [1] for n in range(2500)}).write_parquet(files[-1])
    for file in files:
        with pytest.raises(InvalidInput, match=r"has more than 2,000 columns"):
            shop.load(file, None)
    with pytest.raises(InvalidInput, match="header of more than 1,048,576 characters"):
        shop.load(shop.file("wider.csv", ",".join(f"{n:0100000}" for n in range(20)) + "\n"), None)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(step: int, kind: int) -> bytes:
    return bytes([step << 4 | kind])


def sequence(values: list[bytes]) -> bytes:
    return b"\xfc" + varint(len(values)) + b"".join(values)


def element(name: bytes, children: int = 0) -> bytes:
    """Of a schema: a group with `children`, or a column of numbers."""
    if children:
        return (
            field(3, 5)
            + varint(2)
            + field(1, 8)
            + varint(len(name))
            + name
            + field(1, 5)
            + varint(2 * children)
            + b"\0"
        )
    return field(1, 5) + varint(2) + field(2, 5) + varint(2) + field(1, 8) + varint(len(name)) + name + b"\0"


def parquet(schema: list[bytes], groups: list[bytes]) -> bytes:
    """A file that is nothing but a footer."""
    footer = field(1, 5) + varint(2) + field(1, 9) + sequence(schema) + field(1, 6) + varint(0)
    footer += field(1, 9) + sequence(groups) + b"\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def group(values: int, size: int, columns: int = 1, packed: int = 0) -> bytes:
    """Of one row, with columns of so many values and bytes, whose pages are right behind the file's magic."""
    about = field(5, 6) + varint(2 * values) + field(1, 6) + varint(2 * size) + field(1, 6) + varint(2 * packed)
    about += field(2, 6) + varint(2 * 4) + b"\0"
    return field(1, 9) + sequence([field(3, 12) + about + b"\0"] * columns) + field(2, 6) + varint(2) + b"\0"


def page(size: int, packed: int = 0, kind: int = 0) -> bytes:
    """Of so many bytes as its header has it, packed into nothing."""
    return field(1, 5) + varint(2 * kind) + field(1, 5) + varint(2 * size) + field(1, 5) + varint(2 * packed) + b"\0"


def paged(pages: bytes, columns: int = 1) -> bytes:
    """A file whose footer says nothing of what its pages hold."""
    schema = [element(b"r", columns), *(element(b"c%d" % n) for n in range(columns))]
    return b"PAR1" + pages + parquet(schema, [group(1, 1, columns, len(pages))])[4:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (parquet([element(b"a", 1)] * 100_000 + [element(b"x")], []), "is nested more than 32 deep"),
        (parquet([element(b"r", 300_000)] + [element(b"c")] * 300_000, []), "has more than 2,000 columns"),
        (parquet([element(b"r", 1), element(b"x")], [group(10**12, 100)]), "smaller row groups"),
        (parquet([element(b"r", 1), element(b"x")], [group(1, 1 << 40)]), "smaller row groups"),
        (parquet([element(b"r", 9), *[element(b"x")] * 9], [group(1, 1 << 28, 9)]), "smaller row groups"),
        (paged(page(1 << 30)), "smaller row groups"),
        (paged(page(1 << 30, kind=2) + page(1)), "smaller row groups"),
        (paged(page(1 << 28) * 3), "smaller row groups"),
        (paged(page(1 << 28), columns=9), "smaller row groups"),
        (paged(field(2, 5) + varint(1) + b"\0"), "is damaged"),
        (b"PAR1" + b"\xff" * 100 + struct.pack("<I", 100) + b"PAR1", "is damaged"),
        (b"PAR1" + struct.pack("<I", (1 << 32) - 1) + b"PAR1", "is damaged"),
        (b"PAR1", "is damaged"),
        (b"PAR1" + bytes([0x19, 0xFC]) + b"\xff" * 9 + b"\x01" + struct.pack("<I", 12) + b"PAR1", "is damaged"),
    ],
    ids=[
        "depth",
        "columns",
        "a list of 10^12",
        "a page of 1 TB",
        "many large columns",
        "a page larger than its column",
        "a large dictionary",
        "pages that add up",
        "columns that add up",
        "a page of less than nothing",
        "nonsense",
        "a long footer",
        "a short file",
        "a count",
    ],
)
def test_a_parquet_footer_that_would_end_the_process_is_refused(shop: Shop, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        shop.load(shop.file("file.parquet", content), None)


def test_a_parquet_file_of_too_many_pages_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.sources.files.parquet_footer.MAX_PAGES", 1000)
    with pytest.raises(InvalidInput, match="more than 1,000 pages"):
        shop.load(shop.file("file.parquet", paged(page(1) * 1001)), None)


LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("laughs.yaml", LAUGHS, "aliases"),
        ("deep.yaml", "[" * 50_000, "nested too deeply"),
        ("deep.toml", "a = " + "[" * 50_000, "nested too deeply"),
        ("long.yaml", "# " + "x" * (2 << 20), "longer than 1,048,576 bytes"),
        ("date.yaml", "item: 2026-99-99", "is no YAML"),
        ("digits.yaml", f"item: {'1' * 10_000}", "is no YAML"),
        ("digits.toml", f"item = {'1' * 10_000}", "is no TOML"),
        ("tag.yaml", "!!python/object/apply:os.system [echo]", "is no YAML"),
        ("codec.yaml", "item: {item_id: a}\nencoding: punycode", "no encoding"),
        ("codec.toml", 'encoding = "undefined"\n[item]\nitem_id = "a"', "no encoding"),
        ("quote.toml", "delimiter = '\"'\n[item]\nitem_id = 'a'", "cannot separate"),
    ],
)
def test_a_hostile_mapping_is_refused_with_a_sentence(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=reason):
        read_mapping(tmp_path / name)


def test_items_with_more_properties_than_an_item_has_room_for_are_refused_with_a_sentence(shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="properties"):
        shop.load(shop.file("items.csv", f"item_id,{wide(100)}\n"), None)


def test_text_that_its_encoding_cannot_be_is_refused_with_a_sentence(shop: Shop) -> None:
    mapping = Mapping.model_validate({"item": {"item_id": "item_id"}, "encoding": "utf-7"})
    with pytest.raises(InvalidInput, match="encoding"):
        shop.load(shop.file("items.csv", b"item_id\n" + b"a\n" * 100_000 + b"+\xff\xfe-\n"), mapping)


# Memory, of a process of its own


def endless_line(file: Path) -> None:
    """Half a gigabyte without a line end, in fifty kilobytes."""
    with zstd.open(file, "wb") as packed:
        packed.write((HEADER + GOOD).encode())
        for _ in range(512):
            packed.write(b"x" * (1 << 20))
        packed.write(f"\n{GOOD.replace('e1', 'e3')}".encode())


def objects_of_ever_other_names(file: Path) -> None:
    with file.open("w") as lines:
        lines.writelines(OBJECT % f"e{n}" + "\n" for n in range(1000))
        for n in range(150):
            lines.write("{" + ",".join(f'"k{n}_{m}":1' for m in range(1500)) + "}\n")


def long_rows(file: Path) -> None:
    row = GOOD[:-1] + "," + "x" * 100_000 + "\n"
    with zstd.open(file, "wb") as packed:
        packed.write((HEADER[:-1] + ",note\n").encode())
        for n in range(10_000):
            packed.write(row.replace("e1", f"e{n}").encode())


def a_page_that_was_packed_well(file: Path) -> None:
    rows = pl.DataFrame({"event_id": ["e1"], "user_id": ["ada"], "item_id": ["lamp"], "type": ["view"]})
    rows.with_columns(pl.lit("2026-01-05").alias("occurred_at"), pl.lit("x" * (60 << 20)).alias("note")).write_parquet(
        file, compression="zstd"
    )


MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
print(done.stdout, done.stderr)
"""
"""By a process between: the peak of one that was forked off a large one counts that one's memory."""


def run(command: list[str], folder: Path) -> tuple[int, int, str]:
    """Exit code, megabytes at the peak, and what was printed."""
    environment = {
        **os.environ,
        "MILLIREC_LOG__PATH": str(folder / "log"),
        "MILLIREC_INGEST__REJECTED": str(folder / "rejected"),
    }
    measured = [sys.executable, "-c", MEASURED, *command]
    done = subprocess.run(measured, env=environment, capture_output=True, text=True, check=True)
    figures, _, output = done.stdout.partition("\n")
    code, megabytes = map(int, figures.split())
    return code, megabytes, output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "rows", "accepted"),
    [
        (endless_line, 3, 2),
        (objects_of_ever_other_names, 1150, 1000),
        (a_page_that_was_packed_well, 1, 0),
        (long_rows, 10_000, 10_000),
    ],
)
def test_an_import_of_a_bomb_stays_in_bounded_memory_and_accounts_for_every_row(
    make: Callable[[Path], None], rows: int, accepted: int, tmp_path: Path
) -> None:
    make(tmp_path / "bomb")
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "millirec", "import", str(tmp_path / "bomb"), "--report", str(report), "--no-seed"]
    code, megabytes, output = run(command, tmp_path)
    print(f"{make.__name__}: {megabytes} MB at the peak")  # noqa: T201
    assert code == 0, output
    assert megabytes < GENEROUS
    (counts,) = [file["counts"] for file in msgspec.json.decode(report.read_bytes())["files"]]
    assert (counts["rows"], counts["accepted"]) == (rows, accepted)
    assert sum(counts["rejected"].values()) == rows - accepted
    assert "Traceback" not in output
