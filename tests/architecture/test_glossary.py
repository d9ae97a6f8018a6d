"""The glossary names files that exist, and each term once, in order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \| ([^|]*?) ?\|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    """(term, where it lives) of every row below the head."""
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    return [(match[1], match[3]) for match in ROW.finditer(text) if match[1] not in {"term", "---"}]


def test_every_term_lives_in_a_file_that_exists() -> None:
    assert len(rows()) > 50
    missing = {
        term: path for term, lives in rows() for path in re.findall(r"`([^`]+)`", lives) if not (ROOT / path).is_file()
    }
    assert missing == {}


def test_terms_are_in_order_and_stand_once() -> None:
    terms = [term.lower() for term, _ in rows()]
    assert terms == sorted(set(terms))
