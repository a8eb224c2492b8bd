"""Images per second, by a clock that only moves when told to."""

import time

import pytest

from transformers_tcm.training import Throughput


def test_steps_count_and_what_lies_between_them_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    throughput = Throughput()
    now[0] = 5.0  # setting up
    throughput.start()
    now[0] = 7.0
    throughput.step(16)
    now[0] = 107.0  # an evaluation
    throughput.start()
    now[0] = 109.0
    throughput.step(16)
    assert throughput.take() == 8.0
    now[0] = 110.0
    throughput.step(16)
    assert throughput.take() == 16.0
    assert throughput.take() == 0.0
