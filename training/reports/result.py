"""The result of a training run."""

from dataclasses import dataclass, field
from pathlib import Path

from recsys.models.manifest import Manifest
from training.evaluation.evaluate import Evaluation
from training.evaluation.splits import Split
from training.gate import Check, reasons
from training.recommender.algorithms.protocol import Fit


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """`live` is the live version on the same users, `live_note` why the gate does not count it (empty: it does).

    `discovery` is candidate and popularity evaluated only on items that are new to each user, `own_history` each
    user's own items again (`None` where lists leave those out). A version that was published in spite of the gate's
    `reasons` was forced. `rebuilt` is the version that was made again and what differs.
    """

    manifest: Manifest
    report: Path
    split: Split
    candidate: Evaluation
    popularity: Evaluation
    live: Evaluation | None
    live_note: str
    fit: Fit
    discovery: tuple[Evaluation, ...] = ()
    own_history: Evaluation | None = None
    checks: list[Check] = field(default_factory=list)
    rebuilt: tuple[str, list[str]] | None = None

    @property
    def reasons(self) -> list[str]:
        """Return the gate's reasons for a refusal; empty when every check passed."""
        return reasons(self.checks)

    @property
    def evaluations(self) -> list[Evaluation]:
        """Return the models evaluated on the same users and items: candidate, popularity, own history and live."""
        return [self.candidate, self.popularity, *filter(None, (self.own_history, self.live))]
