"""Measures filters at a million items: `python -m loadtests.filter_bench [items]` prints what ADR 16 quotes."""

import gc
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import faiss
import msgspec
import numpy as np

from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import compile_expression
from recsys.index.artefact import IndexContents, write_artefact
from recsys.index.columns import write_attributes
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.models.kinds import ConfidenceParameters, Kind, RecommenderSection, described
from recsys.models.manifest import Manifest, Provenance
from recsys.opening import open_recommender

DIMENSIONS = 16
CHANGED = 100_000
APPEARED = 2_000
PAGE = 10_000
TRAINED = datetime(2026, 1, 1, tzinfo=UTC)
FILTERS = [
    'categories = "category 7"',
    "price < 10",
    "price < 1000",
    "vegan and price < 10",
    'brand not in ["brand 1", "brand 2"] and stars >= 3',
    'title = "Product number 77 of the shop"',
]
rng = random.Random(1)
T = TypeVar("T")


def item(n: int, at: datetime = TRAINED) -> Item:
    """Item number `n` with random properties, as of `at`."""
    return Item(
        item_id=f"item-{n}",
        updated_at=at,
        title=f"Product number {n} of the shop",
        price=round(rng.lognormvariate(2.5, 1), 2),
        categories=[f"category {rng.randrange(200)}", f"category {rng.randrange(200)}"],
        available=rng.random() > 0.02,
        properties={
            "brand": f"brand {rng.randrange(2000)}",
            "vegan": rng.random() < 0.3,
            "stars": float(rng.randrange(6)),
        },
    )


def timed(name: str, work: Callable[[], T]) -> T:
    """Return the result of `work`; print how long it took."""
    started = time.perf_counter()
    result = work()
    print(f"{1e3 * (time.perf_counter() - started):10.2f} ms  {name}")
    return result


def version(directory: Path, n: int) -> Index:
    """A version with `n` random items, written to `directory` and opened."""
    items = [item(k) for k in range(n)]
    factors = np.random.default_rng(0).normal(size=(n, DIMENSIONS)).astype(np.float32)
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(factors)
    contents = IndexContents(
        [entry.item_id for entry in items], factors, np.ones(n, np.float32), ["u"], factors[:1], items
    )
    write_artefact(directory, contents, index)
    timed("columns written", lambda: write_attributes(directory, items))
    size = sum(path.stat().st_size for path in directory.glob("attributes.*"))
    print(f"{size / 1e6:10.1f} MB  of columns")
    confidence = ConfidenceParameters(alpha=10.0, regularization=0.1, reference_ms=0)
    section = RecommenderSection(
        algorithm="als",
        dimensions=DIMENSIONS,
        items=n,
        users=1,
        log_version=0,
        watermark=TRAINED,
        confidence=confidence,
    )
    manifest = Manifest(
        version="v", kind=Kind.RECOMMENDER, created_at=TRAINED, provenance=Provenance(code_version="bench"), files={},
        section=described(section),
    )  # fmt: skip
    return timed("version opened", lambda: open_recommender(directory, manifest).index)


def masks(name: str, catalogue: Catalogue) -> None:
    """Print how long the mask of each filter takes."""
    for text in FILTERS:
        timed(f"{name}: {text}", lambda text=text: catalogue.allowed((compile_expression(text),)))  # type: ignore[misc]


def caught_up(catalogue: Catalogue, pages: list[list[bytes]]) -> Catalogue:
    """The catalogue after all `pages` of changes, each page warmed up."""
    decode = msgspec.json.Decoder(Item).decode
    for page in pages:
        changed = catalogue.newer([decode(raw) for raw in page])
        catalogue = catalogue.updated(changed).warmed(catalogue)
    return catalogue


def pauses(stop: threading.Event, delays: list[float]) -> None:
    """Append by how many milliseconds short sleeps are late: an event loop would stand still for as long."""
    while not stop.is_set():
        started = time.perf_counter()
        time.sleep(0.001)
        delays.append(1e3 * (time.perf_counter() - started) - 1)


def main() -> None:
    """Print how long filters take before, during and after changes of items."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with TemporaryDirectory() as folder:
        index = version(Path(folder), n)
        catalogue = timed("catalogue of it", lambda: Catalogue.of(index))
        for text in FILTERS:
            compile_expression(text)
        masks("new mask", catalogue)
        rows = [*rng.sample(range(n), min(CHANGED, n // 2)), *range(n, n + APPEARED)]
        feed = [msgspec.json.encode(item(row, TRAINED + timedelta(days=1))) for row in rows]
        pages = [feed[start : start + PAGE] for start in range(0, len(feed), PAGE)]
        gc.collect()
        gc.freeze()
        stop, delays = threading.Event(), list[float]()
        watch = threading.Thread(target=pauses, args=(stop, delays))
        watch.start()
        changed = timed(f"{len(feed)} changes taken in", lambda: caught_up(catalogue, pages))
        stop.set()
        watch.join()
        print(f"{max(delays):10.2f} ms  longest pause of another thread meanwhile, p99 {np.percentile(delays, 99):.2f}")
        masks("kept mask", changed)
        timed("new mask after them", lambda: changed.allowed((compile_expression("price > 9"),)))
        few = [item(row, TRAINED + timedelta(days=2)) for row in rows[:20]]
        later = timed("20 changes taken in", lambda: changed.updated(few))
        timed("mask patched for them", lambda: later.allowed((compile_expression("price < 10"),)))
        timed("categories of 500 rows", lambda: changed.categories_of(np.arange(0, n, max(1, n // 500))[:500]))


if __name__ == "__main__":
    main()
