"""The plain loop on Accelerate, alone and in two processes, against the trainer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loop_worker import train
from safetensors.torch import load_file
from training_fakes import Photos, detector, loop_log, training_arguments

from transformers_tcm import TCMForTextDetection, TCMImageProcessor
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import TCMTrainer, TrainingLoop

WORKER = Path(__file__).parents[1] / "loop_worker.py"


def loop(folder: Path, model: TCMForTextDetection, **changes: Any) -> TrainingLoop:
    arguments = training_arguments(folder, do_train=True, **changes)
    return TrainingLoop(arguments, model, Photos.processor, TextDetectionCollator(model.config))


def test_the_loop_takes_the_steps_of_the_trainer(tmp_path: Path) -> None:
    """The same losses and averages, with accumulation, clipping and a falling rate."""
    settings = {
        "max_steps": 3,
        "gradient_accumulation_steps": 2,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 1,
        "max_grad_norm": 0.5,
        "save_strategy": "no",
    }
    one, two = detector(decoder_dropout=0.0), detector(decoder_dropout=0.0)
    trainer = TCMTrainer(
        one,
        training_arguments(tmp_path / "one", **settings),
        train_dataset=Photos(12),
        image_processor=Photos.processor,
    )
    trainer.train()
    plain = loop(tmp_path / "two", two, **settings)
    plain.run(Photos(12), None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    log = loop_log(tmp_path / "two")
    np.testing.assert_allclose([entry["loss"] for entry in log], losses, rtol=1e-5)
    assert all(entry["images_per_second"] > 0 for entry in log)
    assert trainer.ema is not None
    saved = TCMForTextDetection.from_pretrained(tmp_path / "two").state_dict()
    for name, average in trainer.ema.averages.items():
        torch.testing.assert_close(saved[name], average, rtol=1e-4, atol=1e-6, msg=name)
    assert TCMImageProcessor.from_pretrained(tmp_path / "two").box_threshold == Photos.processor.box_threshold


def test_evaluation_best_model_and_limit_of_checkpoints(tmp_path: Path) -> None:
    """A rate that spoils the model after the first evaluation: the saved one is that of the first."""
    run = loop(
        tmp_path,
        detector(),
        do_eval=True,
        max_steps=4,
        learning_rate=1.0,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=400,
        ema_decay=0.0,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
    )
    run.run(Photos(8), Photos(4))
    losses = [entry["eval_loss"] for entry in loop_log(tmp_path) if "eval_loss" in entry]
    assert len(losses) == 5
    assert losses[-1] == pytest.approx(min(losses[:-1]), rel=1e-4)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


def test_another_number_of_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="6 steps take 12 items, got 8"):
        loop(tmp_path, detector()).train(Photos(8))


def test_a_new_run_starts_a_new_log(tmp_path: Path) -> None:
    for _ in range(2):
        loop(tmp_path, detector(), max_steps=1, save_strategy="no").run(Photos(2), None)
    assert [entry["step"] for entry in loop_log(tmp_path)] == [1]


def losses_of(log: list[dict[str, float]]) -> list[float]:
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the results of several trainings, each in two processes; started once, because that takes longest."""
    folder = tmp_path_factory.mktemp("two")
    saving = {"distinct": 12, "save_steps": 1, "eval_photos": 5}
    runs: dict[str, dict[str, Any]] = {
        "different": {"distinct": 12},
        "alike": {"distinct": 2},
        "whole": saving,
        "resumed": {**saving, "resume_from_checkpoint": str(folder / "whole" / "checkpoint-1")},
    }
    settings = [{"output_dir": str(folder / name), **run} for name, run in runs.items()]
    # `accelerate launch --cpu` starts one process, whatever number it is told; torchrun starts as many.
    launcher = "-m torch.distributed.run --standalone --nproc_per_node 2".split()
    command = [sys.executable, *launcher, str(WORKER), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_two_processes_equal_two_accumulated_batches(two_processes: Path, tmp_path: Path) -> None:
    """On photos that all differ: the gradient of both is the mean over the same batches of two.

    Batch norms are in training mode and use the statistics of each batch; what they keep for inference differs: one
    process sees both batches, of two processes that of the first counts.
    """
    run = train(str(tmp_path), distinct=12, gradient_accumulation_steps=2)
    losses = losses_of(loop_log(tmp_path))
    assert len(set(losses)) == 3
    np.testing.assert_allclose(losses_of(loop_log(two_processes / "different")), losses, rtol=1e-5)
    weights = load_file(two_processes / "different" / "checkpoint-3" / "model.safetensors")
    for name, parameter in run.model.named_parameters():
        # The bias of all keys alike changes no attention: its gradient is rounding, which AdamW makes steps of.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(weights[name], parameter.data, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "distinct", "tolerance"), [("alike", 2, 1e-4), ("different", 12, 0.1)])
def test_two_processes_equal_one_with_twice_the_batch(
    two_processes: Path, tmp_path: Path, kind: str, distinct: int, tolerance: float
) -> None:
    """To rounding where both halves of the batch hold the same photos, roughly elsewhere.

    Batch norms, hard negatives and the dice loss look at a batch as a whole, so that a half without the other gives
    another loss; halves that are alike do not.
    """
    train(str(tmp_path), distinct, per_device_train_batch_size=4)
    both = losses_of(loop_log(two_processes / kind))
    np.testing.assert_allclose(both, losses_of(loop_log(tmp_path)), rtol=tolerance)


@pytest.mark.slow
def test_two_processes_resume_and_evaluate_every_photo_once(two_processes: Path, tmp_path: Path) -> None:
    """Five photos do not divide by two processes."""
    whole, resumed = (loop_log(two_processes / name) for name in ("whole", "resumed"))
    assert [entry["step"] for entry in resumed if "loss" in entry] == [2, 3]
    assert losses_of(resumed) == losses_of(whole)[1:]
    names = [two_processes / run / "checkpoint-3" / "model.safetensors" for run in ("whole", "resumed")]
    one, two = (load_file(name) for name in names)
    assert all(torch.equal(two[name], weight) for name, weight in one.items())
    # The averages of both runs, evaluated by one process.
    run = train(str(tmp_path), distinct=12, eval_photos=5, max_steps=1, per_device_train_batch_size=2)
    for folder in ("whole", "resumed"):
        run.ema.load(two_processes / folder / "checkpoint-3")
        metrics = run.evaluate(run.loader(Photos(5), 1))
        assert loop_log(two_processes / folder)[-1]["eval_loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
