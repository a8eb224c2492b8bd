"""The figures and checkpoints of a plain loop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from training_fakes import Photos, detector, training_arguments
from transformers import get_constant_schedule

from transformers_tcm import TCMForTextDetection, TCMImageProcessor
from transformers_tcm.training import ExponentialMovingAverage, RunFolder


class Loop:
    """Weights and averages that every step moves by 1."""

    def __init__(self, folder: Path, **changes: Any):
        arguments = training_arguments(folder, **changes)
        accelerator = Accelerator(cpu=True)
        self.model = accelerator.prepare(detector())
        self.weight = self.model.model.meta_query
        nn.init.zeros_(self.weight)
        self.ema = ExponentialMovingAverage(self.model, 0.5)
        self.run = RunFolder(accelerator, arguments, Photos.processor)
        schedule = get_constant_schedule(torch.optim.SGD(self.model.parameters()))
        self.run.include(self.model, schedule, self.ema)
        self.first = self.run.resume()

    def steps(self, last: int) -> "Loop":
        for step in range(self.first + 1, last + 1):
            self.weight.data += 1
            self.ema.update(self.model)
            self.run.log(step, {"loss": 1 / step})
            if self.run.is_due("save", step):
                self.run.save_checkpoint(step)
        return self


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_resumed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """What the log says of later steps, and of an earlier run in the same folder, is dropped."""
    whole = Loop(tmp_path, save_steps=2).steps(5)
    assert sorted(path.name for path in tmp_path.glob("*checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    resumed = Loop(tmp_path, save_steps=2, resume_from_checkpoint="last")
    assert resumed.first == 4
    assert [entry["step"] for entry in log_of(tmp_path)] == [1, 2, 3, 4]
    resumed.steps(5)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.ema.averages["model.meta_query"], whole.ema.averages["model.meta_query"])
    assert resumed.ema.num_updates == 5
    assert [entry["step"] for entry in log_of(tmp_path)] == [1, 2, 3, 4, 5]
    Loop(tmp_path).steps(1)
    assert [entry["step"] for entry in log_of(tmp_path)] == [1]


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    Loop(tmp_path, save_steps=1, save_total_limit=2).steps(11)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-11"]


def test_last_needs_no_checkpoint(tmp_path: Path) -> None:
    assert Loop(tmp_path, resume_from_checkpoint="last").first == 0


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no checkpoint of this script: it lacks custom_checkpoint_0\.pkl"):
        Loop(tmp_path, resume_from_checkpoint=str(tmp_path))
    Loop(tmp_path, save_steps=1).steps(1)
    (tmp_path / "checkpoint-1" / "ema.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="checkpoint-1 holds no averaged weights"):
        Loop(tmp_path, resume_from_checkpoint="last")


def test_a_checkpoint_holds_what_makes_a_model_of_it(tmp_path: Path) -> None:
    loop = Loop(tmp_path, save_steps=1).steps(1)
    model = TCMForTextDetection.from_pretrained(tmp_path / "checkpoint-1")
    assert torch.equal(model.model.meta_query, loop.weight)
    averages = ExponentialMovingAverage(model, 0.5)
    assert averages.load(tmp_path / "checkpoint-1")
    assert torch.equal(averages.averages["model.meta_query"], loop.ema.averages["model.meta_query"])
    assert TCMImageProcessor.from_pretrained(tmp_path / "checkpoint-1").do_resize is False


@pytest.mark.parametrize(
    ("every", "due"), [(2, [2, 4, 6]), (0.5, [3, 6]), (4, [4])], ids=["a number", "a share", "no divisor"]
)
def test_what_is_due_after_which_step(tmp_path: Path, every: float, due: list[int]) -> None:
    run = Loop(tmp_path, eval_strategy="steps", eval_steps=every, save_strategy="no").run
    assert [step for step in range(1, 7) if run.is_due("eval", step)] == due
    assert not any(run.is_due("save", step) for step in range(1, 7))


@pytest.mark.parametrize(("greater", "saved"), [(True, [1, 3]), (False, [1, 2, 4])])
def test_the_best_model_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greater: bool, saved: list[int]
) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    run = Loop(tmp_path, **best, metric_for_best_model="hmean", greater_is_better=greater).run
    times: list[int] = []
    monkeypatch.setattr(run, "save_model", times.append)
    for step, hmean in enumerate([0.4, 0.3, 0.5, 0.2, 0.5], start=1):
        run.log_evaluation(step, {"eval_hmean": hmean}, step)  # in place of a model
    assert times == saved
    with pytest.raises(ValueError, match=r"--metric_for_best_model has to be one of \['eval_loss'\], got 'eval_hmean'"):
        run.log_evaluation(6, {"eval_loss": 1.0}, 6)


def test_the_weights_of_the_best_model_are_loaded(tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    run = Loop(tmp_path, **best, metric_for_best_model="eval_loss", greater_is_better=False).run
    model = detector()
    assert not run.load_best(model)
    run.log_evaluation(1, {"eval_loss": 1.0}, model)
    before = model.model.meta_query.clone()
    model.model.meta_query.data += 1
    assert run.load_best(model)
    assert torch.equal(model.model.meta_query, before)
