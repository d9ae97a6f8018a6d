"""One trainer at a time, on every store that creates conditionally."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.clients.objects import Objects
from recsys.errors import Conflict
from recsys.settings import RegistrySettings
from recsys.stores.leases import KEPT_GRANTS, Grant, Lease, held, open_lease

TTL = timedelta(seconds=60)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Objects]:
    if request.param == "memory":
        yield Objects("memory:")
    else:
        yield Objects(request.getfixturevalue("s3_url") if request.param == "s3" else str(tmp_path / "registry"))


@pytest.fixture
def lease(objects: Objects, clock: Clock) -> Lease:
    return Lease(objects, "training", TTL, clock)


def test_who_holds_it_keeps_others_out_until_it_is_released(lease: Lease) -> None:
    grant = lease.acquire("ada")
    assert lease.current() == grant
    with pytest.raises(Conflict, match="held by ada"):
        lease.acquire("bob")
    lease.release(grant)
    assert lease.current() is None
    assert lease.acquire("bob").token > grant.token


def test_a_holder_that_died_keeps_others_out_no_longer_than_it_said(lease: Lease, clock: Clock) -> None:
    dead = lease.acquire("ada")
    clock.now += TTL - timedelta(milliseconds=1)
    with pytest.raises(Conflict):
        lease.acquire("bob")
    clock.now += timedelta(milliseconds=1)
    assert lease.acquire("bob").token > dead.token


def test_who_wakes_up_late_has_lost_it_and_cannot_take_it_back(lease: Lease, clock: Clock) -> None:
    late = lease.acquire("ada")
    clock.now += TTL
    with pytest.raises(Conflict, match="expired"):
        lease.check(late)
    mine = lease.acquire("bob")
    for attempt in (lease.check, lease.renew):
        with pytest.raises(Conflict, match="taken by bob"):
            attempt(late)
    lease.release(late)
    assert lease.current() == mine


def test_renewed_it_lasts(lease: Lease, clock: Clock) -> None:
    grant = lease.acquire("ada")
    tokens = []
    for _ in range(5):
        clock.now += TTL / 2
        grant = lease.renew(grant)
        tokens.append(grant.token)
        lease.check(grant)
    assert tokens == sorted(set(tokens))


def test_of_many_who_want_it_at_once_exactly_one_gets_it(objects: Objects, clock: Clock) -> None:
    together = threading.Barrier(8)

    def attempt(n: int) -> Grant | None:
        together.wait()
        try:
            return Lease(objects, "training", TTL, clock).acquire(f"trainer-{n}")
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        granted = [grant for grant in pool.map(attempt, range(8)) if grant is not None]
    assert granted == [Lease(objects, "training", TTL, clock).current()]


def test_only_the_newest_entries_are_kept(lease: Lease, objects: Objects) -> None:
    grant = lease.acquire("ada")
    for _ in range(KEPT_GRANTS + 5):
        grant = lease.renew(grant)
    assert len(objects.entries("leases/training")) == KEPT_GRANTS
    assert lease.current() == grant


def test_a_name_that_was_tidied_away_meanwhile_is_no_lease(lease: Lease, objects: Objects) -> None:
    """A process that listed long ago and creates an old entry finds newer ones."""
    grant = lease.acquire("ada")
    for _ in range(KEPT_GRANTS + 5):
        grant = lease.renew(grant)
    objects.create("leases/training/00000002.json", b'{"holder":"late","token":2,"expires_at":"2030-01-01T00:00:00Z"}')
    assert lease.current() == grant


def test_a_lease_is_renewed_while_the_block_runs_and_free_afterwards(tmp_path: Path) -> None:
    lease = open_lease(RegistrySettings(url=str(tmp_path / "registry")), "training", 60.0)
    renewed = threading.Event()
    with held(lease, "ada", every=0.01) as mine:
        first = mine.token
        while mine.token < first + 3:
            assert not renewed.wait(0.01)
        mine.check()
        with pytest.raises(Conflict):
            lease.acquire("bob")
    assert lease.current() is None


def test_a_block_that_lost_its_lease_is_told_so_when_it_asks(tmp_path: Path) -> None:
    lease = open_lease(RegistrySettings(url=str(tmp_path / "registry")), "training", 60.0)
    with held(lease, "ada", every=60.0) as mine:
        current = lease.current()
        assert current is not None
        lease.release(current)
        theirs = lease.acquire("bob")
        with pytest.raises(Conflict, match="taken by bob"):
            mine.check()
    assert lease.current() == theirs, "what is somebody else's is left alone"
