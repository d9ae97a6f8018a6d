"""Mapping files: what they say, and what they say when they are wrong."""

from pathlib import Path

import pytest

from ingest.batch.mapping import Mapping, read_mapping
from recsys.errors import InvalidInput
from tests.ingest.shop import SHOP_MAPPING, Shop, shop_frame

MINIMAL = """
interaction:
  user_id: customer
  item_id: product
  type: {value: purchase}
  occurred_at: at
"""


def mapping(tmp_path: Path, text: str, name: str = "map.yaml") -> Mapping:
    path = tmp_path / name
    path.write_text(text)
    return read_mapping(path)


def test_yaml_and_toml_say_the_same(tmp_path: Path) -> None:
    toml = """
    [interaction]
    user_id = "customer"
    item_id = "product"
    type = {value = "purchase"}
    occurred_at = "at"
    """
    assert mapping(tmp_path, MINIMAL) == mapping(tmp_path, toml, "map.toml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("interaction: [", "map.yaml: is no YAML"),
        ("- a list", "map.yaml: mapping"),
        ("reject: []", "needs an `interaction:` or an `item:` section"),
        ("item: {title: name}", "item.item_id: is missing"),
        (MINIMAL.replace("  user_id: customer\n", ""), "map.yaml: interaction.user_id: Field required"),
        (MINIMAL + "  colour: red", "map.yaml: interaction.colour: Extra inputs are not permitted"),
        (MINIMAL + "  price: {column: p, over: 3}", "interaction.price.over: Extra inputs"),
        (MINIMAL + "  price: {above: 3}", "interaction.price: needs exactly one of a column"),
        (MINIMAL.replace("{value: purchase}", "{value: a, column: b}"), "interaction.type: needs exactly one of"),
        (MINIMAL.replace(": at", ": {column: at, time_zone: Moon/Base}"), "'Moon/Base' is no time zone"),
        (MINIMAL.replace(": product", ": {column: product, must_match: '('}"), "is no regular expression"),
        (MINIMAL + "reject: [{column: a, matches: '[', reason: x}]", "reject.0.matches: is no regular expression"),
        (MINIMAL + "encoding: klingon", "encoding: 'klingon' is no encoding"),
        (MINIMAL + "delimiter: ';;'", "delimiter: String should have at most 1 character"),
    ],
)
def test_a_wrong_mapping_names_the_field(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        mapping(tmp_path, text)
    assert complaint in str(refusal.value)


def test_a_mapping_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_mapping(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("extra", "path"),
    [
        ("  quantity: qty", "mapping interaction.quantity"),
        ("  event_id: {columns: [product, nr]}", "mapping interaction.event_id"),
        ("item: {properties: {land: country}}", "mapping item.properties.land"),
        ("reject: [{column: kind, matches: x, reason: y}]", "mapping reject.0"),
        ("count: {visits: visit}", "mapping count.visits"),
    ],
)
def test_a_column_the_file_lacks_is_named_with_those_it_has(extra: str, path: str, tmp_path: Path, shop: Shop) -> None:
    with pytest.raises(InvalidInput) as refusal:
        shop.load(shop.file("shop.csv", shop_frame().write_csv()), mapping(tmp_path, MINIMAL + extra))
    assert refusal.value.field == path
    assert refusal.value.reason.endswith("its columns are invoice, product, name, quantity, at, price, customer")
    assert shop.log.version() == -1


def test_an_optional_column_may_be_absent(tmp_path: Path, shop: Shop) -> None:
    given = mapping(tmp_path, MINIMAL + "  session_id: {column: visit, optional: true}")
    report = shop.load(shop.file("shop.csv", shop_frame().write_csv()), given)
    assert report.counts.accepted > 0
    assert shop.rows().get_column("session_id").null_count() == report.counts.accepted


def test_values_are_renamed_and_numbers_read_with_a_decimal_comma(tmp_path: Path, shop: Shop) -> None:
    given = mapping(
        tmp_path,
        """
        delimiter: ";"
        interaction:
          user_id: {column: u, case: lower}
          item_id: i
          type: {column: t, values: {buy: purchase, See: view}}
          occurred_at: at
          price: {column: p, decimal: ","}
        """,
    )
    shop.load(shop.file("f.csv", "u;i;t;at;p\nADA;1;buy;2026-01-05;1.234,50\nbob;2;See;2026-01-05;0,5\n"), given)
    assert shop.rows().select("user_id", "type", "price").rows() == [("ada", "purchase", 1234.5), ("bob", "view", 0.5)]


@pytest.mark.parametrize("columns", ["user_id,item_id,type", "title,price", "user_id,item_id,occurred_at"])
def test_a_file_without_our_names_needs_a_mapping(columns: str, shop: Shop) -> None:
    with pytest.raises(InvalidInput, match="mapping: is needed"):
        shop.load(shop.file("file.csv", columns + "\n1,2,3\n"), None)


def test_a_bad_second_file_is_found_before_the_first_is_imported(shop: Shop) -> None:
    from ingest.batch.file_import import import_files

    good = shop.file("good.csv", shop_frame().write_csv())
    bad = shop.file("bad.csv", "a,b\n1,2\n")
    with pytest.raises(InvalidInput):
        import_files([good, bad], SHOP_MAPPING, shop.log, shop.settings)
    assert shop.log.version() == -1
