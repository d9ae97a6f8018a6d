"""Limits on login attempts: each is counted before it is checked, so that parallel ones gain nothing."""

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from time import monotonic

MAX_PAUSE = 30.0
NETWORK_BITS = 64
"""Of an IPv6 address: the rest of it is for its holder to choose."""


class Attempts:
    """Attempts of each client and of all together.

    A client has `free` attempts; from the last of them on each makes the next one wait, twice as long each time, until
    one succeeds. All clients together have `rate` attempts per second, and `burst` at once. The table holds the newest
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
        """Count an attempt from `address`. Returns 0 where it may be checked, else the seconds until the next may."""
        client = client_of(address)
        now_seconds = monotonic()
        count, until = self._counted.get(client, (0, 0.0))
        wait = until - now_seconds if until > now_seconds else self._wait_of_all(now_seconds)
        if wait > 0:
            return wait
        self._tokens -= 1
        count += 1
        pause = 0.0 if count < self._free else min(MAX_PAUSE, 2.0 ** min(count - self._free, 10))
        self._counted[client] = (count, now_seconds + pause)
        self._counted.move_to_end(client)
        if len(self._counted) > self._clients:
            self._counted.popitem(last=False)
        return 0.0

    def withdraw(self, address: str) -> None:
        """Uncount an attempt of this client that could not be checked."""
        client = client_of(address)
        count, _ = self._counted.pop(client, (0, 0.0))
        if count > 1:
            self._counted[client] = (count - 1, 0.0)

    def reset(self, address: str) -> None:
        """Forget the failed attempts of this client."""
        self._counted.pop(client_of(address), None)

    def _wait_of_all(self, now_seconds: float) -> float:
        self._tokens = min(float(self._burst), self._tokens + (now_seconds - self._filled) * self._rate)
        self._filled = now_seconds
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._rate


def client_of(address: str) -> str:
    """Return the client of an address: an IPv4 address itself, an IPv6 address by its network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS)))
