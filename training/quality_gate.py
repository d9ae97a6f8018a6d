"""Quality gate: every reason why a version must not be published."""

from training.evaluate import HEADLINE_K, Evaluation
from training.settings import GateSettings

RECALL = f"recall@{HEADLINE_K}"
COVERAGE = f"coverage@{HEADLINE_K}"


def refusals(
    gate: GateSettings,
    candidate: Evaluation,
    popularity: Evaluation,
    live: Evaluation | None = None,
    live_lead: float | None = None,
) -> list[str]:
    """Why the candidate is refused; empty when it passes.

    `live` is the live version on the same users, where it has not seen the answers. Where it has, `live_lead`
    is how many times popularity's recall it reached on days that were held out from it: weeks differ in how
    predictable they are, and that moves popularity too.
    """
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
    if live_lead is not None and recall < (1.0 - gate.max_lead_lost) * live_lead * popular:
        reasons.append(
            f"{RECALL} is {recall / popular:.2f} times that of popular items, the live version reached "
            f"{live_lead:.2f} times when it was trained; at most {gate.max_lead_lost:.0%} of the lead may be lost "
            "(gate.max_lead_lost)"
        )
    return reasons
