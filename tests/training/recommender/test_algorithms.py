"""An algorithm is one file: what it takes is checked when settings are read, and a new one needs no other change."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

import training.recommender.algorithms as folder
from millirec.settings import load_settings
from recsys.errors import InvalidInput
from recsys.index.index import Index
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import checkerboard, log_of
from training.recommender.algorithms import algorithm_names, open_algorithm
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import TrainSettings

SVD = '''
    """SVD: the best approximation of the confidences by so many dimensions."""

    from dataclasses import dataclass

    import numpy as np
    from pydantic import Field

    from recsys.settings import Section
    from training.recommender.algorithms.protocol import Fit, fold_in_users


    class Parameters(Section):
        """Parameters of the SVD."""

        power: float = Field(0.5, gt=0, le=1, description="of the singular values")


    @dataclass
    class SVD:
        """Item factors are right singular vectors."""

        settings: object
        parameters: Parameters
        name: str = "svd"

        def fit(self, matrix, progress):
            from scipy.sparse.linalg import svds

            _, values, items = svds(matrix, k=self.settings.factors, random_state=self.settings.seed)
            progress(1, 1)
            factors = np.ascontiguousarray((items.T * values**self.parameters.power).astype(np.float32))
            return Fit(factors, [float(values.max())], "largest singular value")

        def user_factors(self, matrix, item_factors):
            return fold_in_users(matrix, item_factors, self.settings.regularization, self.settings.threads)


    def create(settings, parameters):
        return SVD(settings, parameters)
'''


def test_a_new_file_in_the_folder_is_an_algorithm_that_can_be_trained_and_published(
    small: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = tmp_path / "algorithms"
    added.mkdir()
    (added / "svd.py").write_text(dedent(SVD))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(added)])
    assert algorithm_names() == ["als", "bpr", "svd"]
    settings = small.model_copy(update={"algorithm": "svd", "parameters": {"power": 0.75}, "factors": 2})
    registry = MemoryModelRegistry()
    manifest = run(settings, log_of(checkerboard()), registry, RunRequest("test", "test")).manifest
    assert manifest.parameters["training"]["parameters"] == {"power": 0.75}
    assert manifest.metrics["recall@20"] > 0.9, "even users want even items: two dimensions say that"
    index = Index.open(registry.fetch(manifest.version, tmp_path / "copy"), manifest)
    assert np.isfinite(index.item_factors).all()


def test_the_manifest_has_the_parameters_in_force_and_not_only_those_that_were_set(small: TrainSettings) -> None:
    settings = small.model_copy(update={"algorithm": "bpr", "parameters": {"iterations": 3}, "factors": 4})
    log, registry = log_of(checkerboard()), MemoryModelRegistry()
    manifest = run(settings, log, registry, RunRequest("test", "test", force=True)).manifest
    expected = {"iterations": 3, "learning_rate": 0.02, "regularization": 0.01}
    assert manifest.parameters["training"]["parameters"] == expected


@pytest.mark.parametrize(
    ("algorithm", "parameters", "field", "reason"),
    [
        ("als", {"learning_rate": 0.1}, "train.parameters.learning_rate", "als takes iterations"),
        ("als", {"iterations": 0}, "train.parameters.iterations", "greater than or equal to 1"),
        ("bpr", {"iterations": "many"}, "train.parameters.iterations", "integer"),
        ("protocol", {}, "train.algorithm", "none of als, bpr"),
        ("lightfm", {}, "train.algorithm", "none of als, bpr"),
    ],
)
def test_parameters_that_an_algorithm_does_not_have_are_refused_by_name(
    algorithm: str, parameters: dict[str, bool | int | float | str], field: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason) as refused:
        open_algorithm(TrainSettings(algorithm=algorithm, parameters=parameters))
    assert refused.value.field == field


def test_a_wrong_parameter_in_the_settings_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "millirec.toml").write_text('[train]\nalgorithm = "bpr"\nparameters = { iterations = 0 }\n')
    monkeypatch.setenv("MILLIREC_CONFIG", str(tmp_path / "millirec.toml"))
    with pytest.raises(InvalidInput, match="iterations"):
        load_settings()
    monkeypatch.setenv("MILLIREC_TRAIN__PARAMETERS__ITERATIONS", "7")
    assert open_algorithm(load_settings().train).parameters.model_dump()["iterations"] == 7
