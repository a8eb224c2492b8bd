"""Folders of images: results come in order, a bounded number of them is ahead, and torch's threads are shared."""

import threading
from types import SimpleNamespace

import pytest
import torch

from transformers_tcm.cli.overlap import overlapped, workers_for
from transformers_tcm.models.tcm.exported_tcm import ExportedTextDetection


def test_results_come_in_order_while_several_are_at_work() -> None:
    both = threading.Barrier(2, timeout=30)

    def double(number: int) -> int:
        both.wait()  # passes only where two numbers are at work at once
        return 2 * number

    assert [(item, result.result()) for item, result in overlapped(double, range(6), 2)] == [
        (number, 2 * number) for number in range(6)
    ]


def test_no_more_items_are_taken_than_workers_are_ahead() -> None:
    taken: list[int] = []
    items = (taken.append(number) or number for number in range(100))
    results = overlapped(lambda number: number, items, 3)
    assert next(results)[1].result() == 0
    assert len(taken) == 4
    results.close()
    assert len(taken) == 4


def test_an_error_is_that_of_its_own_item() -> None:
    def invert(number: int) -> float:
        return 1 / number

    errors = [type(result.exception()) for _, result in overlapped(invert, [1, 0, 2], 2)]
    assert errors == [type(None), ZeroDivisionError, type(None)]


def test_workers_share_the_threads_which_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        shares = [result.result() for _, result in overlapped(lambda _: torch.get_num_threads(), range(8), 2)]
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert shares == [2] * 8
        assert [torch.get_num_threads(), *later] == [4, 4]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "threads", "images", "workers"),
    [("cpu", 2, 9, 2), ("cpu", 64, 9, 4), ("cpu", 8, 1, 1), ("cuda", 8, 9, 1)],
)
def test_a_processor_computes_several_images_at_once(
    monkeypatch: pytest.MonkeyPatch, device: str, threads: int, images: int, workers: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    detector = SimpleNamespace(model=None, device=torch.device(device))
    assert workers_for(detector, images) == workers
    detector.model = ExportedTextDetection.__new__(ExportedTextDetection)
    assert workers_for(detector, images) == 1
