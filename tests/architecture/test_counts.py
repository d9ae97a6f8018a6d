"""The words of the code: names say what they hold, and what is public says what it does."""

from pathlib import Path

from tests.architecture.counts import Counts, count

COUNTS = count(Path(__file__).parents[2])


def test_hardly_a_name_is_vague() -> None:
    assert COUNTS.vague_share <= 0.01, COUNTS.vague


def test_no_loop_runs_over_a_pronoun() -> None:
    assert [position for position in COUNTS.vague if position.endswith(" one")] == []


def test_what_is_public_has_a_docstring() -> None:
    assert COUNTS.undocumented == []


def test_most_functions_fit_a_hand() -> None:
    assert COUNTS.median_function <= 10


def test_few_files_are_smaller_than_a_screen() -> None:
    assert COUNTS.small_share <= 0.1, COUNTS.small


def test_a_pronoun_and_a_public_function_without_a_docstring_are_counted(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text("def total(rows):\n    return sum(one for one in rows)\n")
    counts: Counts = count(tmp_path, ["package"])
    assert counts.vague == ["package/module.py:2 one"]
    assert counts.undocumented == ["package/module.py:1 total"]
    assert counts.vague_share == 0.5
