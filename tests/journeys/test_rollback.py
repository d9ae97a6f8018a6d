"""A rollback of four workers under load, by one call and by one command, told of by the notification alone."""

import psutil
import pytest

from tests.environment.deployment import Deployment
from tests.environment.waiting import wait_until_sync
from tests.journeys.hammer import all_answers, hammering, move


def ready(deployment: Deployment) -> int:
    """Workers that have a version open; the first of them makes the service answer."""
    workers = psutil.Process(deployment.processes["serve"].pid).children(recursive=True)
    return sum(any(one.path.endswith("item_factors.npy") for one in worker.memory_maps()) for worker in workers)


def by_call(deployment: Deployment) -> None:
    move(deployment, "rollback")


def by_command(deployment: Deployment) -> None:
    deployment.run("versions", "rollback", "--reason", "journey")


@pytest.mark.slow
def test_a_rollback_reaches_every_worker_and_no_request_fails(deployment: Deployment) -> None:
    # Nobody looks at the alias unasked while this test runs.
    deployment.environment["MILLIREC_SERVE__POLL_INTERVAL"] = "600"
    deployment.serve("--workers", "4")
    wait_until_sync(lambda: ready(deployment) == 4, 60.0)
    before = all_answers(deployment)
    with hammering(deployment.url, clients=8) as hammer:
        hammer.settle_on("first")
        for roll_back in (by_call, by_command):
            move(deployment, "second/promote")
            hammer.settle_on("second")
            roll_back(deployment)
            hammer.settle_on("first")
            moved_at = deployment.registry.history("live")[-1].moved_at.timestamp()
            late = hammer.last["second"][1] - moved_at
            print(f"{roll_back.__name__}: the last old answer came {late:.3f} s after the move")  # noqa: T201
    assert hammer.failures == []
    assert {key for key, answers in hammer.answers.items() if len(answers) != 1} == set(), "an answer mixed versions"
    assert all_answers(deployment) == before
    assert {user: hammer.answers[user, "first"] for user in before} == {
        user: {own} for user, (_, own) in before.items()
    }
