"""Retries have a bound, and give way to rivals."""

from itertools import islice

import pytest

from recsys.retries import backoffs, compare_and_set, retried, retried_async


class Refusals:
    """A call that is refused `times` times, and then answers."""

    def __init__(self, times: int, error: Exception) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error
        return "done"


def test_a_call_is_repeated_until_it_succeeds() -> None:
    call = Refusals(2, OSError("busy"))
    assert retried(call, (OSError,), attempts=3, pause=0.0) == "done"
    assert call.calls == 3


def test_the_last_error_comes_through_when_the_attempts_are_over() -> None:
    call = Refusals(9, OSError("busy"))
    with pytest.raises(OSError, match="busy"):
        retried(call, (OSError,), attempts=3, pause=0.0)
    assert call.calls == 3


def test_an_error_of_another_kind_is_not_repeated() -> None:
    call = Refusals(9, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        retried(call, (OSError,), attempts=3, pause=0.0)
    assert call.calls == 1


def test_a_retry_writes_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    retried(Refusals(2, OSError("busy")), (OSError,), attempts=3, pause=0.0)
    assert capsys.readouterr() == ("", "")


async def test_only_what_a_rival_changed_is_written_again() -> None:
    writes: list[list[str]] = []

    async def write(pending: list[str]) -> list[str]:
        writes.append(pending)
        return pending[1:]

    assert await compare_and_set(["a", "b", "c"], write, attempts=9) == []
    assert writes == [["a", "b", "c"], ["b", "c"], ["c"]]


async def test_what_never_settles_is_returned_after_the_bound() -> None:
    calls = 0

    async def write(pending: list[str]) -> list[str]:
        nonlocal calls
        calls += 1
        return pending

    assert await compare_and_set(["a"], write, attempts=4) == ["a"]
    assert calls == 4


async def test_with_nothing_to_write_nothing_is_called() -> None:
    async def write(pending: list[str]) -> list[str]:
        raise AssertionError

    nothing: list[str] = []
    assert await compare_and_set(nothing, write, attempts=4) == []


def test_back_offs_double_up_to_the_longest_and_differ() -> None:
    pauses = list(islice(backoffs(0.1, 5.0), 200))
    for pause, middle in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0], strict=False):
        assert 0.5 * middle <= pause <= 1.5 * middle
    assert all(2.5 <= pause <= 7.5 for pause in pauses[6:])
    assert len(set(pauses)) == 200


@pytest.mark.parametrize(("error", "expected"), [(OSError("down"), 3), (ValueError("wrong"), 1)])
async def test_an_accepted_error_is_retried_up_to_the_bound_and_then_comes_through(
    error: Exception, expected: int
) -> None:
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error), match=str(error)):
        await retried_async(fail, lambda raised: isinstance(raised, OSError), 3, 0.0)
    assert len(calls) == expected
