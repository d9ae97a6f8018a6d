"""Journey (c), with real data: import, train, publish and promote while clients hammer, then roll back."""

from pathlib import Path

import polars as pl
import pytest

from recsys.settings import StoreSettings
from tests.environment.deployment import Deployment, deployed
from tests.environment.waiting import wait_until_sync
from tests.journeys.hammer import all_answers, hammering, move

DATA = Path(__file__).parents[2] / "data"
FAST = {
    "MILLIREC_TRAIN__FACTORS": "16",
    "MILLIREC_TRAIN__PARAMETERS__ITERATIONS": "4",
    "MILLIREC_TRAIN__THREADS": "1",
    "MILLIREC_TRAIN__GATE__MAX_DROP_TO_LIVE": "1",
}


def some_months(folder: Path, name: str, first: int, last: int) -> str:
    """Rows `first` to `last` of the shop's first year, as a file of its own."""
    path = folder / f"{name}.parquet"
    rows = pl.scan_parquet(DATA / "online_retail_ii_2009_2010.parquet").slice(first, last - first)
    rows.collect().write_parquet(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_training_and_promoting_while_clients_ask_costs_no_request(
    store_settings: StoreSettings, tmp_path: Path
) -> None:
    with deployed(store_settings, tmp_path, FAST) as shop:
        mapping = str(DATA / "online_retail.yaml")
        shop.run("import", some_months(tmp_path, "early", 0, 60_000), "--mapping", mapping)
        shop.run("train", "--reason", "the first months")
        shop.serve()
        before = all_answers(shop)
        first = shop.recommend("13085")
        assert first["fallback_level"] == "folded", "the import seeded the store"
        with hammering(shop.url, clients=2) as hammer:
            shop.run("import", some_months(tmp_path, "late", 60_000, 120_000), "--mapping", mapping)
            shop.run("train", "--reason", "more months")
            wait_until_sync(lambda: shop.recommend("13085")["index_version"] != first["index_version"], 10.0)
            hammer.go_on()
            move(shop, "rollback")
            hammer.go_on()
        assert hammer.failures == []
        assert len({version for _, version in hammer.answers}) == 2
        assert [key for key, answers in hammer.answers.items() if len(answers) != 1] == []
        assert all_answers(shop) == before


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_a_refused_version_changes_nothing(store_settings: StoreSettings, tmp_path: Path) -> None:
    refusing = {**FAST, "MILLIREC_TRAIN__GATE__MIN_RATIO_TO_POPULARITY": "100"}
    with deployed(store_settings, tmp_path, refusing) as shop:
        mapping = str(DATA / "online_retail.yaml")
        shop.run("import", some_months(tmp_path, "early", 0, 40_000), "--mapping", mapping, "--no-seed")
        told = refused(shop, "train")
        assert "gate.min_ratio_to_popularity" in told
        assert "--force" in told
        assert shop.registry.versions() == []
        assert "live ->" in shop.run("train", "--force", "--reason", "we know why")


def refused(shop: Deployment, *arguments: str) -> str:
    process = shop.start("refused", *arguments)
    assert process.wait(120) == 1
    return shop.output("refused")
