"""Whatever structure is searched, and through whatever filter: the right rows, with their true scores."""

import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.index.allowed import AllowedRows
from recsys.index.factors import Matrix
from recsys.index.search import SearchIndex
from recsys.models.kinds import SearchSpec
from training.recommender.index_build import augmented, recall_of

RNG = np.random.default_rng(5)
D = 16
TASTES = RNG.normal(size=(20, D))


def clustered(n: int, seed: int) -> Matrix:
    """Around shared tastes, with norms that differ as popularity makes them."""
    rng = np.random.default_rng(seed)
    norms = rng.gamma(2.0, 0.5, size=(n, 1)) + 0.2
    return ((TASTES[rng.integers(20, size=n)] + 0.5 * rng.normal(size=(n, D))) * norms).astype(np.float32)


FACTORS = clustered(12_000, 1)
USERS = clustered(60, 2)


def built(kind: str, factors: Matrix, **spec: int) -> SearchIndex:
    points = augmented(factors) if spec.get("augmented") else factors
    metric = faiss.METRIC_L2 if spec.get("augmented") else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(points.shape[1], kind, metric)
    if not index.is_trained:
        index.train(points)
    index.add(points)
    return SearchIndex(index, factors, SearchSpec(kind=kind, **spec))  # type: ignore[arg-type]


@pytest.fixture(
    scope="module",
    params=[
        ("Flat", {}),
        ("IVF100,Flat", {"nprobe": 48}),
        ("IVF100,SQ8", {"nprobe": 48, "refine": 2}),
        ("SQ8", {"refine": 2}),
        ("HNSW16", {"ef_search": 512, "augmented": True}),
    ],
    ids=lambda one: one[0],
)
def index(request: pytest.FixtureRequest) -> SearchIndex:
    kind, spec = request.param
    return built(kind, FACTORS, **spec)


SMALL = SearchIndex(faiss.IndexFlatIP(2), np.empty((0, 2), np.float32), SearchSpec())
VALUES = st.integers(-3, 3).map(float)


@given(data=st.data(), n=st.integers(1, 30), q=st.integers(1, 4), k=st.integers(1, 40))
def test_exact_search_finds_what_looking_at_every_row_finds(data: st.DataObject, n: int, q: int, k: int) -> None:
    factors = np.array(data.draw(st.lists(st.tuples(VALUES, VALUES), min_size=n, max_size=n)), np.float32)
    vectors = np.array(data.draw(st.lists(st.tuples(VALUES, VALUES), min_size=q, max_size=q)), np.float32)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    allowed = data.draw(st.sampled_from([None, AllowedRows.of(mask)]))
    rows, scores = built("Flat", factors).search(vectors, k, allowed)
    for vector, found, scored in zip(vectors, rows, scores, strict=True):
        true = factors @ vector
        may = np.arange(n) if allowed is None else np.flatnonzero(mask)
        expected = may[np.lexsort((may, -true[may]))][:k]
        kept = found[found >= 0]
        assert len(kept) == len(expected)
        assert sorted(true[kept], reverse=True) == true[kept].tolist() == true[expected].tolist()
        assert scored[: len(kept)].tolist() == true[kept].tolist()
        assert (found[len(kept) :] == -1).all()


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.95, 1.0])
def test_a_filter_costs_little_recall_and_lets_nothing_through(index: SearchIndex, share: float) -> None:
    mask = np.random.default_rng(3).random(len(FACTORS)) < share
    mask[0] = True
    true = np.where(mask, USERS @ FACTORS.T, -np.inf)
    wanted = min(50, int(mask.sum()))
    rows, scores = index.search(USERS, 50, AllowedRows.of(mask))
    assert mask[rows[rows >= 0]].all()
    assert ((rows >= 0).sum(axis=1) == wanted).all(), "as many as there are"
    best = np.argsort(-true, axis=1, kind="stable")[:, :wanted]
    found = np.mean([np.isin(right, mine).mean() for right, mine in zip(best, rows, strict=True)])
    assert found >= 0.93
    np.testing.assert_allclose(
        scores[:, :wanted], np.take_along_axis(true, rows[:, :wanted], axis=1), rtol=1e-4, atol=1e-4
    )


def test_answers_do_not_depend_on_who_else_asks(index: SearchIndex) -> None:
    together = index.search(USERS, 20)
    for place, user in enumerate(USERS):
        rows, scores = index.search(user[None, :], 20)
        assert rows[0].tolist() == together[0][place].tolist()
        assert scores[0].tolist() == together[1][place].tolist()


def test_every_kind_finds_nearly_all_of_the_nearest(index: SearchIndex) -> None:
    truth = built("Flat", FACTORS).search(USERS, 50)[0]
    assert recall_of(index, USERS, truth) >= 0.95


def test_rows_beyond_the_version_are_none_of_its_business(index: SearchIndex) -> None:
    mask = np.zeros(len(FACTORS) + 5, np.bool_)
    mask[[3, 8, len(FACTORS) + 1]] = True
    rows, _ = index.search(USERS[:1], 10, AllowedRows.of(mask))
    assert sorted(rows[0].tolist()) == [-1] * 8 + [3, 8]


MEASURE = """
import sys
import numpy as np
from pathlib import Path
from recsys.index.search import SearchIndex
from recsys.models.kinds import SearchSpec

def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous"))

factors = np.load(sys.argv[2], mmap_mode="r")
before = anonymous()
index = SearchIndex.open(Path(sys.argv[1]), factors, SearchSpec(kind="IVF64,Flat", nprobe=64))
index.search(np.ones((4, factors.shape[1]), np.float32), 10)
print(anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells")
def test_an_opened_index_lies_in_shared_pages(tmp_path: Path) -> None:
    factors = RNG.normal(size=(60_000, 64)).astype(np.float32)
    index = faiss.index_factory(64, "IVF64,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(factors[:5000])
    index.add(factors)
    faiss.write_index(index, str(tmp_path / "items.faiss"))
    np.save(tmp_path / "factors.npy", factors)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "items.faiss"), str(tmp_path / "factors.npy")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown * 1024 < 0.25 * (tmp_path / "items.faiss").stat().st_size
