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


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_they_agree_with_ranx() -> None:
    from ranx import Qrels, Run, evaluate

    rng = np.random.default_rng(1)
    wanted: dict[str, dict[str, int]] = {}
    ranked: dict[str, dict[str, float]] = {}
    ours: dict[str, list[float]] = {name: [] for name in ("recall", "ndcg", "map")}
    for user in range(50):
        relevant = rng.choice(200, size=int(rng.integers(1, 30)), replace=False)
        order = rng.permutation(200)[:50]
        wanted[f"u{user}"] = {f"i{item}": 1 for item in relevant}
        ranked[f"u{user}"] = {f"i{item}": float(50 - place) for place, item in enumerate(order)}
        found = np.isin(order, relevant)
        for name, function in (
            ("recall", metrics.recall),
            ("ndcg", metrics.ndcg),
            ("map", metrics.average_precision),
        ):
            ours[name].append(function(found, len(relevant), 20))
    theirs = evaluate(Qrels(wanted), Run(ranked), [f"{name}@20" for name in ours])
    for name, values in ours.items():
        assert np.mean(values) == pytest.approx(theirs[f"{name}@20"], abs=1e-6), name
