"""Connections that say nothing: they are closed in time, and make room for those who ask."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from recsys.settings import StoreSettings
from tests.attacks.bystanders import bystanders
from tests.attacks.conftest import KEYS, Report, keyed_environment
from tests.attacks.wire import PATIENCE, dial, dialled, head, read_answer
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.waiting import wait_until_sync

FILES = 320
ROOM = FILES - 128 - 16
"""Connections that a process with so many files lets in, beside those that ask for health."""
LIVE = head("GET", "/health/live")
KEYED = head("GET", "/recommend?user_id=u1&k=1", x_api_key=KEYS["recommend"])
HELD = {**keyed_environment(), "MILLIREC_SERVE__HEAD_TIMEOUT": "60", "MILLIREC_SERVE__BODY_TIMEOUT": "60"}
"""Time to look at connections that are held."""


def served_with_few_files(made: Deployment) -> Deployment:
    """As an operator does whose shell says `ulimit -n 320`."""
    command = f"ulimit -n {FILES}; exec {sys.executable} -m millirec serve --port {made.port}"
    with (made.folder / "serve.out").open("ab") as output:
        made.processes["serve"] = subprocess.Popen(
            ["/bin/sh", "-c", command], env=made.environment, stdout=output, stderr=output, start_new_session=True
        )

    def ready() -> bool:
        try:
            return httpx.get(f"{made.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    wait_until_sync(ready, 60.0)
    return made


@pytest.fixture(scope="module")
def narrow(module_store: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(module_store, tmp_path_factory.mktemp("narrow"), HELD) as made:
        yield served_with_few_files(with_versions(made))


@pytest.fixture(scope="module")
def service(narrow: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Impatient, of the same versions."""
    hasty = {**narrow.environment, "MILLIREC_SERVE__HEAD_TIMEOUT": "1"}
    made = Deployment(tmp_path_factory.mktemp("hasty"), hasty)
    made.serve()
    yield made
    made.stop()


@contextmanager
def paused(made: Deployment) -> Iterator[None]:
    """Stop the service's process during the block; all that arrives then is one moment's work."""
    made.processes["serve"].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        made.processes["serve"].send_signal(signal.SIGCONT)


def test_silence_is_ended(service: Deployment) -> None:
    with dialled(service.url, 3) as connections:
        for connection in connections:
            assert connection.recv(1) == b""


def test_a_connection_that_was_answered_and_asks_no_more_is_ended(service: Deployment) -> None:
    with dial(service.url) as connection:
        connection.sendall(LIVE)
        assert read_answer(connection)[0] == 200
        assert connection.recv(1) == b""


def test_a_peer_that_went_away_without_a_word_costs_a_connection_for_seconds_only(service: Deployment) -> None:
    process = psutil.Process(service.processes["serve"].pid)
    before = process.num_fds()
    with dialled(service.url, 50):
        wait_until_sync(lambda: process.num_fds() >= before + 50)
        wait_until_sync(lambda: process.num_fds() <= before, PATIENCE)


def test_more_silent_connections_than_files_reset_nobody(narrow: Deployment, report: Report) -> None:
    with bystanders(narrow.url, KEYS["recommend"]) as people, dialled(narrow.url, FILES):
        people.go_on(50)
        with dialled(narrow.url, FILES):
            people.go_on(50)
    report(f"{2 * FILES} silent connections, {FILES} files", people)
    assert not people.keyed_failures
    assert not people.health_failures


def test_who_asks_in_the_very_moment_of_a_flood_is_answered(narrow: Deployment) -> None:
    with ExitStack() as asking:
        with paused(narrow):
            people = [asking.enter_context(dial(narrow.url)) for _ in range(8)]
            for person in people:
                person.sendall(KEYED)
            asking.enter_context(dialled(narrow.url, FILES))
        assert [read_answer(person)[0] for person in people] == [200] * len(people)


def test_the_oldest_that_was_never_answered_makes_room(narrow: Deployment) -> None:
    with dial(narrow.url) as client, dialled(narrow.url, ROOM - 1) as silent:
        client.sendall(LIVE)
        assert read_answer(client)[0] == 200
        with dial(narrow.url) as newcomer:
            newcomer.sendall(LIVE)
            assert read_answer(newcomer)[0] == 200
            assert silent[0].recv(1) == b"", "it was the first"
            client.sendall(LIVE)
            assert read_answer(client)[0] == 200
            silent[-1].sendall(LIVE)
            assert read_answer(silent[-1])[0] == 200


def test_the_log_says_why_connections_were_ended(narrow: Deployment) -> None:
    wait_until_sync(lambda: '"cause": "no-room"' in narrow.output("serve"))
