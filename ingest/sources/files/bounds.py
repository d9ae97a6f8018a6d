"""What a source takes at most, so that no file, whatever is in it, can fill the memory."""

MAX_LINE = 1 << 20
"""Characters of one line, bytes of one row; longer rows are rejected, each for itself."""
MAX_DEPTH = 32
"""Objects inside objects, or lists inside lists, of one value."""
MAX_BATCH = 128 << 20
"""Bytes, roughly, of the rows taken apart at a time."""
CELL = 64
"""Bytes, roughly, that a value takes beside its text."""

TOO_LONG = f"is longer than {MAX_LINE:,} characters"
TOO_DEEP = f"is nested more than {MAX_DEPTH} deep"


def too_many_columns(columns: int) -> str:
    """Return the reason to refuse a file or row with more than `columns` columns."""
    return f"has more than {columns:,} columns (MILLIREC_INGEST__IMPORT_COLUMNS)"
