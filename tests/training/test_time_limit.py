"""Trainings that end in time, with the rate at zero, by a clock that only moves when told to."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_fakes import Photos, detector, training_arguments
from transformers import get_scheduler

from transformers_tcm.training import TCMTrainer, TCMTrainingArguments
from transformers_tcm.training.time_limit import TimeLimit

ALONE = SimpleNamespace(num_processes=1)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def linear(steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return optimizer, get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)


def rates(now: list[float], limit: TimeLimit, seconds_a_step: float, steps: int) -> list[float]:
    """Rates after each step until the time is up."""
    optimizer, scheduler = linear(limit.max_steps)
    limit.start(scheduler)
    found = []
    for _ in range(steps):
        now[0] += seconds_a_step
        optimizer.step()
        scheduler.step()
        ended = limit.follow(scheduler, ALONE)
        found.append(scheduler.get_last_lr()[0])
        if ended:
            break
    return found


def test_a_slow_machine_makes_fewer_steps_down_to_zero(now: list[float]) -> None:
    assert rates(now, TimeLimit(10.0, 100), 2.5, 100) == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_a_fast_machine_makes_all_steps(now: list[float]) -> None:
    assert rates(now, TimeLimit(1000.0, 4), 1.0, 4) == pytest.approx([0.75, 0.5, 0.25, 0.0])
    assert rates(now, TimeLimit(None, 4), 1e6, 4) == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_a_run_that_goes_on_has_all_of_the_time_for_the_rest(now: list[float]) -> None:
    optimizer, scheduler = linear(100)
    scheduler.last_epoch = 59
    optimizer.step()
    scheduler.step()
    limit = TimeLimit(10.0, 100)
    limit.start(scheduler)
    now[0] += 5
    assert not limit.follow(scheduler, ALONE)
    assert scheduler.get_last_lr()[0] == pytest.approx(0.2)


def arguments(folder: Path) -> TCMTrainingArguments:
    return training_arguments(folder, max_steps=100_000, max_seconds=0.01, save_strategy="no", eval_strategy="no")


def test_a_trainer_stops_when_the_time_is_up(tmp_path: Path) -> None:
    trainer = TCMTrainer(detector(), arguments(tmp_path), train_dataset=Photos(), image_processor=Photos.processor)
    trainer.train()
    assert trainer.state.global_step == 1  # a step takes longer
    assert trainer.lr_scheduler.get_last_lr()[-1] == 0


def test_a_limit_has_to_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--max_seconds has to be positive, got 0"):
        training_arguments(tmp_path, max_seconds=0)
