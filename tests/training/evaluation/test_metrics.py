"""The metrics, by hand and against an independent library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation import metrics


def hits(*places: int, length: int = 10) -> metrics.Hits:
    made = np.zeros(length, dtype=np.bool_)
    made[[place - 1 for place in places]] = True
    return made


def test_known_answers() -> None:
    found = hits(1, 3)
    assert metrics.recall(found, relevant=4, k=5) == 0.5
    assert metrics.recall(found, relevant=4, k=2) == 0.25
    assert metrics.hit(found, relevant=4, k=1) == 1.0
    assert metrics.hit(hits(7), relevant=1, k=5) == 0.0
    assert metrics.average_precision(found, relevant=4, k=5) == pytest.approx((1 / 1 + 2 / 3) / 4)
    ideal = 1 + 1 / np.log2(3) + 1 / 2 + 1 / np.log2(5)
    assert metrics.ndcg(found, relevant=4, k=5) == pytest.approx((1 + 1 / 2) / ideal)


@given(st.integers(1, 10), st.integers(1, 12))
def test_a_perfect_list_is_perfect(relevant: int, k: int) -> None:
    found = hits(*range(1, relevant + 1), length=12)
    assert metrics.ndcg(found, relevant, k) == pytest.approx(1.0)
    assert metrics.recall(found, relevant, k) == min(k, relevant) / relevant


RANX = {"recall@20": 0.09912837, "ndcg@20": 0.08916158, "map@20": 0.02286143}
"""What the library says of `lists()`."""


def lists() -> list[tuple[list[int], list[int]]]:
    """Fifty users: the items wanted, and the items shown in their order."""
    rng = np.random.default_rng(1)
    return [
        (rng.choice(200, size=int(rng.integers(1, 30)), replace=False).tolist(), rng.permutation(200)[:50].tolist())
        for _ in range(50)
    ]


def test_they_agree_with_ranx() -> None:
    ours: dict[str, list[float]] = {name: [] for name in RANX}
    for wanted, shown in lists():
        found = np.isin(shown, wanted)
        ours["recall@20"].append(metrics.recall(found, len(wanted), 20))
        ours["ndcg@20"].append(metrics.ndcg(found, len(wanted), 20))
        ours["map@20"].append(metrics.average_precision(found, len(wanted), 20))
    for name, values in ours.items():
        assert np.mean(values) == pytest.approx(RANX[name], abs=1e-6), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the library's own
def test_the_answers_of_ranx_are_its_own() -> None:
    """It compiles itself for ten seconds."""
    from ranx import Qrels, Run, evaluate

    wanted = {f"u{user}": {f"i{item}": 1 for item in items} for user, (items, _) in enumerate(lists())}
    ranked = {
        f"u{user}": {f"i{item}": float(50 - place) for place, item in enumerate(shown)}
        for user, (_, shown) in enumerate(lists())
    }
    assert evaluate(Qrels(wanted), Run(ranked), list(RANX)) == pytest.approx(RANX, abs=1e-6)
