"""The context of a training run: what was asked for, and what each of its steps needs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from recsys.models.manifest import Manifest
from training.recommender.algorithms.protocol import Algorithm
from training.recommender.assemble import FactorModel, fit_factors
from training.recommender.dataset import Dataset
from training.recommender.index_build import Progress
from training.settings import TrainSettings


def _nobody_else() -> None:
    """Do nothing: no other trainer is possible."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request to train.

    `force` publishes in spite of the gate, or without held-out users; the manifest keeps the `reason`. `log_version`
    is the snapshot of the log (`None`: the newest). `like` rebuilds that version, from its settings and its snapshot
    of log and catalogue, without comparing with the live version. `assert_lease` is called last before publishing and
    raises when another trainer has taken over.
    """

    actor: str
    reason: str
    force: bool = False
    log_version: int | None = None
    like: Manifest | None = None
    assert_lease: Callable[[], None] = _nobody_else


@dataclass(frozen=True, slots=True)
class RunContext:
    """Data shared by the steps of a run; `folder` is a scratch folder that is gone when the run ends."""

    settings: TrainSettings
    algorithm: Algorithm
    dataset: Dataset
    folder: Path
    progress: Progress

    def fit(self, interactions: pl.DataFrame, reference: datetime, stage: str = "learning factors") -> FactorModel:
        """Learn item factors from `interactions`, whose ages count back from `reference`."""
        return fit_factors(self.settings, self.algorithm, interactions, reference, partial(self.progress, stage))
