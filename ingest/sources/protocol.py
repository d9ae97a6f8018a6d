"""Sources: anything that raw rows are imported from (a file, a table, a collection, an API, a bucket, a queue)."""

from collections.abc import Generator, Sequence
from typing import Protocol

from ingest.sources.rows import RawRows
from recsys.stores.event_log.cursors import Cursor


class Source(Protocol):
    """Rows in an order that can be gone on with from a cursor.

    The log keeps the cursor of a batch in the commit that appends its rows, so each row is imported exactly once
    wherever a process is killed. For that an implementation guarantees:

    - **Order.** Batches come in one fixed order, and a batch's cursor stands behind all of its rows and before all
      that follow. Rows that may still appear before a cursor (a late commit, a slow clock) are held back until they
      cannot: what appears behind the cursor's back is never read.
    - **Replay.** From the same cursor come the same rows, or later states of them; no row that came before it. Where
      the batches are cut may differ from one time to the next.
    - **Bounds.** A batch has at least one row, at most as many as the source was opened for, and about
      `rows.MAX_BATCH` bytes; a cursor has at most `MAX_CURSOR_BYTES` as JSON and is read from JSON as it was.
      Every wait for another system ends, and so do its retries.
    - **Honesty.** A row that cannot be taken apart is a `BrokenRow`, not left out. What no longer is what the
      cursor was made of (a file that changed, a table whose columns did) is refused with `InvalidInput`.

    Everything here is synchronous: an import runs in a thread or a process of its own, and a source whose client
    is asynchronous keeps its event loop to itself.
    """

    @property
    def partition(self) -> str:
        """The log's partition for the rows: `IMPORT_PREFIX` and a name that is the same whenever the source is."""
        ...

    @property
    def columns(self) -> Sequence[str]:
        """The names of the columns, so that a mapping can be checked before a row is read; rows may bring others."""
        ...

    def batches(self, after: Cursor | None) -> Generator[tuple[Cursor, RawRows]]:
        """Yield what follows `after` (`None`: everything), each batch with the cursor that stands behind it.

        Rows are numbered in their order, from any number on. To be called once: open the source anew to read it
        again. Closing the generator releases what the source holds. Raises `InvalidInput` for damaged or changed
        data and for a cursor that is none of this source, `Unavailable` when another system does not answer.
        """
        ...
