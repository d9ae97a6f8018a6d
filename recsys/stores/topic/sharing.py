"""Who gets what: keys over partitions, and partitions over the members of a group."""

import xxhash


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key; the same in every process and release (XXH3, 64 bits)."""
    return xxhash.xxh3_64_intdigest(key.encode()) % partitions


def share_of(rank: int, members: int, partitions: int) -> int:
    """How many partitions the member with this rank (from 0) owns; over all ranks they sum up to `partitions`."""
    return partitions // members + (rank < partitions % members)
