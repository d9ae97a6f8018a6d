"""How often strangers may try to log in: counted before a try is looked at, so that parallel ones gain nothing."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from time import monotonic

MAX_PAUSE = 30.0
NETWORK_BITS = 64
"""Of an IPv6 address: the rest of it is for its holder to choose."""


class Attempts:
    """Tries of each client and of all together.

    A client has `free` tries; from the last of them on each makes the next one wait, twice as long each time, until
    one succeeds. All clients together have `rate` tries per second, and `burst` at once. The table holds the newest
    `clients` of them.
    """

    def __init__(self, free: int = 3, clients: int = 10_000, rate: float = 5.0, burst: int = 30) -> None:
        self._free = free
        self._clients = clients
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._filled = monotonic()
        self._counted: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def begin(self, address: str) -> float:
        """Count a try from `address`. Returns 0 where it may be looked at, else the seconds until the next may."""
        client = client_of(address)
        now = monotonic()
        count, until = self._counted.get(client, (0, 0.0))
        wait = until - now if until > now else self._wait_of_all(now)
        if wait > 0:
            return wait
        self._tokens -= 1
        count += 1
        pause = 0.0 if count < self._free else min(MAX_PAUSE, 2.0 ** min(count - self._free, 10))
        self._counted[client] = (count, now + pause)
        self._counted.move_to_end(client)
        if len(self._counted) > self._clients:
            self._counted.popitem(last=False)
        return 0.0

    def withdraw(self, address: str) -> None:
        """A try that could not be looked at does not count for its client."""
        client = client_of(address)
        count, _ = self._counted.pop(client, (0, 0.0))
        if count > 1:
            self._counted[client] = (count - 1, 0.0)

    def succeeded(self, address: str) -> None:
        self._counted.pop(client_of(address), None)

    def _wait_of_all(self, now: float) -> float:
        self._tokens = min(float(self._burst), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate


def client_of(address: str) -> str:
    """The client an address belongs to: itself, or its network where a client has a whole one to choose from."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS)))
