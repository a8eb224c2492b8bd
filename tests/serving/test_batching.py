"""One thread that computes what is waiting."""

from collections.abc import Iterator
from threading import Event

import pytest

from transformers_tcm.serving.batching import MicroBatcher

SECONDS = 20  # that nothing here takes


class Squares:
    """Squares of numbers, or errors for negative ones; the first batch waits for the gate."""

    def __init__(self) -> None:
        self.gate, self.entered = Event(), Event()
        self.batches: list[list[int]] = []

    def __call__(self, numbers: list[int]) -> list[int | Exception]:
        self.entered.set()
        assert self.gate.wait(SECONDS)
        self.batches.append(numbers)
        if 0 in numbers:
            raise RuntimeError("zero")
        return [number**2 if number > 0 else ValueError(f"{number} is negative") for number in numbers]


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def batcher(squares: Squares) -> Iterator[MicroBatcher[int, int]]:
    batcher = MicroBatcher[int, int](squares, most=3)
    batcher.start()
    yield batcher
    squares.gate.set()
    batcher.close()


def test_what_waits_is_computed_together_in_order_and_the_first_alone(
    batcher: MicroBatcher[int, int], squares: Squares
) -> None:
    first = batcher.submit(1)
    assert squares.entered.wait(SECONDS)
    others = [batcher.submit(number) for number in (2, 3, 4, 5)]
    squares.gate.set()
    assert [future.result(SECONDS) for future in (first, *others)] == [1, 4, 9, 16, 25]
    assert squares.batches == [[1], [2, 3, 4], [5]]


def test_an_error_reaches_its_submitter_and_the_thread_goes_on(
    batcher: MicroBatcher[int, int], squares: Squares
) -> None:
    squares.gate.set()
    with pytest.raises(ValueError, match="-2 is negative"):
        batcher.submit(-2).result(SECONDS)
    with pytest.raises(RuntimeError, match="zero"):
        batcher.submit(0).result(SECONDS)
    assert batcher.is_alive
    assert batcher.submit(7).result(SECONDS) == 49


def test_what_nobody_waits_for_is_not_computed(batcher: MicroBatcher[int, int], squares: Squares) -> None:
    batcher.submit(1)
    assert squares.entered.wait(SECONDS)
    futures = [batcher.submit(number) for number in (2, 3)]
    assert futures[0].cancel()
    squares.gate.set()
    assert futures[1].result(SECONDS) == 9
    assert squares.batches == [[1], [3]]


def test_closing_finishes_what_was_submitted(squares: Squares) -> None:
    batcher = MicroBatcher[int, int](squares, most=2)
    futures = [batcher.submit(number) for number in range(1, 6)]
    squares.gate.set()
    batcher.start()
    batcher.close()
    assert [future.result(timeout=0) for future in futures] == [1, 4, 9, 16, 25]
    assert not batcher.is_alive
