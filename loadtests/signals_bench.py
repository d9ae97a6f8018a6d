"""Measures co-occurrences and cold-start factors on the last weeks of the shop's data.

python -m loadtests.signals_bench prints what docs/quality.md quotes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ingest.batch.file_import import import_files
from ingest.batch.mapping import read_mapping
from ingest.settings import IngestSettings
from recsys.catalogue.catalogue import Catalogue
from recsys.index.content import BUCKETS, features
from recsys.messages.item import Item
from recsys.opening import open_recommender
from recsys.recommender.candidates.co_occurrence import co_occurrence
from recsys.recommender.candidates.demand import popular
from recsys.recommender.candidates.similar import similar
from recsys.stores.event_log.memory import MemoryInteractionLog
from training.evaluation.evaluate import HeldOutUser, evaluate_model, held_out_users
from training.evaluation.splits import Split, split_by_time
from training.recommender import dataset as data
from training.recommender.algorithms import open_algorithm
from training.runs.context import RunContext
from training.runs.publish import write_version
from training.settings import TrainSettings

DATA = Path(__file__).parents[1] / "data"
FILES = [DATA / "online_retail_ii_2009_2010.parquet", DATA / "online_retail.parquet"]
SEEDS = range(3)
HIDDEN = 0.1
Rows = NDArray[np.int64]
Find = Callable[[int], Rows]


def shop() -> data.Dataset:
    """Both years, through the real import."""
    log = MemoryInteractionLog()
    with TemporaryDirectory() as folder:
        import_files(FILES, read_mapping(DATA / "online_retail.yaml"), log, IngestSettings(rejected=Path(folder)))
    return data.load(log, None, TrainSettings())


def learned(items: dict[str, Item], split: Split, folder: Path) -> Catalogue:
    """A version as `millirec train` makes it, of the past only, in a shop with these `items`."""
    settings = TrainSettings()
    dataset = data.Dataset(split.past, items, 0, split.cutoff)
    context = RunContext(settings, open_algorithm(settings), dataset, folder, silent)
    model = context.fit(split.past, split.cutoff)
    manifest, _ = write_version(context, folder, model, metrics={}, notes={}, tune=False)
    return open_recommender(folder, manifest)


def silent(*_: object) -> None:
    """Do nothing: for training without a progress bar."""
    return


def baskets(split: Split, catalogue: Catalogue) -> Iterator[tuple[int, Rows]]:
    """For each user and day of the future: one random item, and the other items bought."""
    chance = np.random.default_rng(0)
    days = split.future.group_by("user_id", pl.col("occurred_at").dt.date(), maintain_order=True)
    for (items,) in days.agg(pl.col("item_id").unique().sort()).select("item_id").iter_rows():
        rows = catalogue.index.item_id.rows(items)
        rows = rows[rows >= 0]
        if len(rows) > 1:
            anchor = int(chance.choice(rows))
            yield anchor, rows[rows != anchor]


def judge_together(split: Split, catalogue: Catalogue) -> None:
    """Print how often each way finds the rest of a basket from one of its items."""
    samples = list(baskets(split, catalogue))
    print(f"{len(samples)} baskets of the last four weeks: one item given, are others of the basket in the first 10?")
    ways: dict[str, Find] = {
        "popular items": lambda row: popular(catalogue, None, frozenset({row}), 10).rows,
        "cosine of ALS factors": lambda row: similar(catalogue, np.array([row]), None, frozenset({row}), 10).rows,
        "found together": lambda row: co_occurrence(catalogue, np.array([row]), None, frozenset({row}), 10).rows,
    }
    for name, way in ways.items():
        results = [way(anchor) for anchor, _ in samples]
        right = np.array([np.isin(rows, rest).sum() for rows, (_, rest) in zip(results, samples, strict=True)])
        coverage = len(np.unique(np.concatenate(results))) / len(catalogue)
        print(f"  {name:22} hit@10 {np.mean(right > 0):.3f}  precision@10 {right.mean() / 10:.3f}  {coverage=:.3f}")


def judge_cold(split: Split, dataset: data.Dataset, whole: Catalogue, seed: int) -> dict[str, float]:
    """Metrics of recommendations when a tenth of the items has no past: for those items and for all."""
    item_ids = split.past["item_id"].unique().sort().to_list()
    hidden = set(np.random.default_rng(seed).choice(item_ids, int(len(item_ids) * HIDDEN), replace=False).tolist())
    past = split.past.filter(~pl.col("item_id").is_in(list(hidden)))
    reduced = Split(past, split.future, split.cutoff)
    users = held_out_users(reduced, TrainSettings().history_length, exclude_seen=False)
    without = {item: dataset.items[item] for item in item_ids if item not in hidden}
    with TemporaryDirectory() as folder:
        version = learned({item: dataset.items[item] for item in item_ids}, reduced, Path(folder))
        lists = evaluate_model("cold items", version, users, exclude_seen=False, progress=silent)
        figures = among_cold(version, whole, split, [user for user in users if user.targets & hidden], seed)
    with TemporaryDirectory() as folder:
        version = learned(without, reduced, Path(folder))
        baseline = evaluate_model("no cold items", version, users, exclude_seen=False, progress=silent)
    cold = lists.list_counts[-len(hidden) :]
    return figures | {
        "all items, recall@20 without them": baseline.metrics["recall@20"],
        "all items, recall@20 with them": lists.metrics["recall@20"],
        "their share of the lists": float(cold.sum() / lists.list_counts.sum()),
        "share of them that are shown": float((cold > 0).mean()),
    }


def among_cold(
    version: Catalogue, whole: Catalogue, split: Split, users: list[HeldOutUser], seed: int
) -> dict[str, float]:
    """recall@20 among the cold items alone, by way of ranking them; `whole` knows their past."""
    cold = np.flatnonzero(version.index.cold)
    ids = version.ids(cold)
    rows = whole.rows(ids)
    complete = {
        user.user_id: user for user in held_out_users(split, TrainSettings().history_length, exclude_seen=False)
    }
    vectors = np.stack(
        [vector for user in users if (vector := version.index.fold_in_many([user.history])[0]) is not None]
    )
    knowing = np.stack(
        [
            vector
            for user in users
            if (vector := whole.index.fold_in_many([complete[user.user_id].history])[0]) is not None
        ]
    )
    scores = {
        "by chance": np.random.default_rng(seed).random((len(users), len(cold))),
        "by words in common with what the customer had": words_in_common(version, users, cold),
        "placed by content": vectors @ version.vectors(cold).T,
        "had they their past: popularity": np.tile(whole.index.popularity[rows], (len(users), 1)),
        "had they their past: ALS": knowing @ whole.vectors(rows).T,
    }
    positions = {item: at for at, item in enumerate(ids)}
    targets = [[positions[item] for item in user.targets if item in positions] for user in users]
    return {"customers asked": float(len(users))} | {
        f"recall@20 {name}": float(np.mean([recall(line, right) for line, right in zip(table, targets, strict=True)]))
        for name, table in scores.items()
    }


def recall(scores: NDArray[np.floating[Any]], targets: list[int]) -> float:
    """The share of `targets` among the 20 columns with the highest scores."""
    return float(np.isin(np.argsort(-scores, kind="stable")[:20], targets).sum() / len(targets))


def words_in_common(version: Catalogue, users: list[HeldOutUser], cold: Rows) -> NDArray[np.float64]:
    """(users, cold): how many words, rare ones weighing more, an item shares with each item the user had."""
    profiles = features([item for row in range(len(version)) if (item := version.item(row)) is not None])
    words = csr_matrix((profiles.weights, profiles.buckets, profiles.indptr), shape=(len(version), BUCKETS))
    rarity = np.log(len(version) / (1.0 + np.diff(words.tocsc().indptr)))
    had = [version.rows([entry.item_id for entry in user.history]) for user in users]
    where = np.repeat(np.arange(len(users)), [len(rows) for rows in had])
    matrix = csr_matrix((np.ones(len(where)), (where, np.concatenate(had))), shape=(len(users), len(version)))
    common: NDArray[np.float64] = (matrix @ words.multiply(rarity**2).tocsr() @ words[cold].T).toarray()
    return common


def main() -> None:
    """Print what is found together, and how new items are ranked, over several seeds."""
    dataset = shop()
    split = split_by_time(dataset.interactions, TrainSettings().holdout_days)
    with TemporaryDirectory() as folder:
        whole = learned({}, split, Path(folder))
        judge_together(split, whole)
        seeds = [judge_cold(split, dataset, whole, seed) for seed in SEEDS]
    print(f"a tenth of the items without their past, mean of {len(seeds)} such tenths (lowest to highest):")
    for name in seeds[0]:
        values = [run[name] for run in seeds]
        print(f"  {name:58} {np.mean(values):8.3f}  ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
