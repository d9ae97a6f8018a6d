"""Leases: one at a time, on the registry's object store, so that it holds across machines.

`leases/{name}/{sequence:08d}.json`, one object per grant or renewal, each created if absent: of two who want to be next
one wins, on every store that can create conditionally. The sequence number is the fencing token: it only grows, and
a holder with an older one has lost the lease (Kleppmann, "How to do distributed locking", 2016).

A lease expires by the clocks of the machines, which may differ by less than the holder's renewals leave: renewed after
a third of `ttl`, two thirds of it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from recsys.clients.objects import Objects, sequence_of
from recsys.errors import Conflict, RegistryUnavailable
from recsys.settings import RegistrySettings

KEPT_GRANTS = 20
"""Newest entries, so that one sees who held it."""

log = structlog.get_logger()


class Grant(msgspec.Struct, frozen=True):
    """`holder` has the lease until `expires_at`, unless a grant with a larger `token` exists."""

    holder: str
    token: int
    expires_at: datetime
    released: bool = False


class Lease:
    """The lease `name`. All methods are synchronous; all raise `RegistryUnavailable`."""

    def __init__(
        self, objects: Objects, name: str, ttl: timedelta, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._objects = objects
        self._folder = f"leases/{name}"
        self._ttl = ttl
        self._clock = clock

    def current(self) -> Grant | None:
        """The grant that holds now, `None` where the lease is free."""
        newest = self._newest()
        return newest if newest is not None and self._holds(newest) else None

    def acquire(self, holder: str) -> Grant:
        """Take the lease under the unique name `holder`. Raises `Conflict` while it is held or another is faster."""
        newest = self._newest()
        if newest is not None and self._holds(newest):
            until = f"{newest.expires_at:%Y-%m-%d %H:%M:%S} UTC"
            raise Conflict(f"{self._folder} is held by {newest.holder} until {until}, unless renewed")
        return self._grant(newest, holder)

    def renew(self, grant: Grant) -> Grant:
        """A new grant for another `ttl`. Raises `Conflict` when the lease was lost: expired and taken, or released."""
        self.check(grant)
        return self._grant(grant, grant.holder)

    def release(self, grant: Grant) -> None:
        """End `grant`; does nothing where it is no longer the newest."""
        if self._newest() == grant:
            self._grant(grant, grant.holder, released=True)

    def check(self, grant: Grant) -> None:
        """Raise `Conflict` unless `grant` still holds; to be called right before an exclusive action."""
        newest = self._newest()
        if newest != grant or not self._holds(grant):
            cause = "it expired" if newest == grant else f"it was taken by {newest.holder if newest else 'nobody'}"
            raise Conflict(f"{self._folder} is not ours any more: {cause}")

    def _holds(self, grant: Grant) -> bool:
        return not grant.released and self._clock() < grant.expires_at

    def _newest(self) -> Grant | None:
        return next(self._objects.newest_first(self._folder, Grant), None)

    def _grant(self, predecessor: Grant | None, holder: str, *, released: bool = False) -> Grant:
        """The grant right after `predecessor`. Raises `Conflict` where another holder made it."""
        token = predecessor.token + 1 if predecessor else 1
        grant = Grant(holder, token, self._clock() + self._ttl, released)
        created = self._objects.create(f"{self._folder}/{token:08d}.json", msgspec.json.encode(grant))
        # Who slept before creating it may have made an entry that others made and tidied away long ago.
        if not created or self._newest() != grant:
            raise Conflict(f"{self._folder} was taken by somebody else meanwhile")
        for entry in self._objects.entries(self._folder):
            if sequence_of(entry["path"]) <= grant.token - KEPT_GRANTS:
                self._objects.delete(entry["path"])
        return grant


class HeldLease:
    """A lease that is renewed in the background."""

    def __init__(self, lease: Lease, grant: Grant) -> None:
        self._lease = lease
        self._grant = grant
        self._lock = threading.Lock()

    @property
    def token(self) -> int:
        """The fencing token of the newest grant."""
        return self._grant.token

    def check(self) -> None:
        """Raise `Conflict` when the lease was lost."""
        with self._lock:
            self._lease.check(self._grant)

    def renew(self) -> None:
        """Renew the lease. Raises `Conflict` when it was lost."""
        with self._lock:
            self._grant = self._lease.renew(self._grant)

    def release(self) -> None:
        """Give the lease back, so that the next holder need not wait until it expires."""
        with self._lock:
            self._lease.release(self._grant)


@contextmanager
def held(lease: Lease, holder: str, every: float) -> Iterator[HeldLease]:
    """`lease` for as long as the block runs, renewed every so many seconds. Raises `Conflict`, `RegistryUnavailable`.

    When it is lost the block goes on: it asks `check` before it does what only one may do.
    """
    mine = HeldLease(lease, lease.acquire(holder))
    ended = threading.Event()

    def renewing() -> None:
        """Renew the lease every `every` seconds until the block ends or the lease is lost."""
        while not ended.wait(every):
            try:
                mine.renew()
            except Conflict as error:
                log.error("a lease was lost", error=str(error))
                return
            except RegistryUnavailable as error:
                log.warning("a lease could not be renewed", error=str(error))

    thread = threading.Thread(target=renewing, name="lease", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        ended.set()
        thread.join()
        try:
            mine.release()
        except (Conflict, RegistryUnavailable) as error:
            log.warning("a lease could not be released and will expire", error=str(error))


def open_lease(settings: RegistrySettings, name: str, ttl: float) -> Lease:
    """The lease `name` in that registry, for `ttl` seconds at a time; opened on first use."""
    url = "memory:" if settings.backend == "memory" else settings.url
    return Lease(Objects(url), name, timedelta(seconds=ttl))
