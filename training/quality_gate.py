"""Quality gate: every reason why a version must not be published."""

from training.evaluate import HEADLINE_K, Evaluation
from training.settings import GateSettings

RECALL = f"recall@{HEADLINE_K}"
COVERAGE = f"coverage@{HEADLINE_K}"


def refusals(gate: GateSettings, candidate: Evaluation, popularity: Evaluation, live: Evaluation | None) -> list[str]:
    """Why the candidate is refused; empty when it passes. `live` is `None` where comparing would not be fair."""
    users = len(candidate.recall)
    if users < gate.min_users:
        return [f"only {users} held-out users have a past: {gate.min_users} are needed to judge (gate.min_users)"]
    reasons = []
    recall, popular = candidate.metrics[RECALL], popularity.metrics[RECALL]
    if recall < gate.min_recall:
        reasons.append(f"{RECALL} is {recall:.4f}, below the floor of {gate.min_recall} (gate.min_recall)")
    if recall < gate.min_ratio_to_popularity * popular:
        reasons.append(
            f"{RECALL} is {recall:.4f}, less than {gate.min_ratio_to_popularity} times the {popular:.4f} "
            "of popular items (gate.min_ratio_to_popularity)"
        )
    coverage = candidate.metrics[COVERAGE]
    if coverage < gate.min_coverage:
        reasons.append(f"{COVERAGE} is {coverage:.4f}, below {gate.min_coverage} (gate.min_coverage)")
    if live is not None and recall < (1.0 - gate.max_drop_to_live) * live.metrics[RECALL]:
        reasons.append(
            f"{RECALL} is {recall:.4f}, the live version reaches {live.metrics[RECALL]:.4f} on the same users; "
            f"at most {gate.max_drop_to_live:.0%} may be lost (gate.max_drop_to_live)"
        )
    return reasons
