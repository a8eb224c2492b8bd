"""The example that makes a model of a checkpoint."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from accelerate import Accelerator
from training_fakes import Photos, spotter, training_arguments

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.training import ExponentialMovingAverage, RunFolder, TCMTrainer

SCRIPT = Path(__file__).parents[2] / "examples" / "text-spotting" / "checkpoint_to_model.py"


@pytest.fixture
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("checkpoint_to_model", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def checkpoint_of_the_trainer(folder: Path, processor: TCMImageProcessor) -> dict[str, torch.Tensor]:
    arguments = training_arguments(folder, max_steps=2, save_steps=2)
    trainer = TCMTrainer(spotter(), arguments, train_dataset=Photos(), image_processor=processor)
    trainer.train()
    return trainer.ema.averages


def checkpoint_of_a_plain_loop(folder: Path, processor: TCMImageProcessor) -> dict[str, torch.Tensor]:
    arguments = training_arguments(folder, max_steps=2, save_steps=2)  # first, because they reset the accelerator
    model, accelerator = spotter(), Accelerator(cpu=True)
    accelerator.prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ema = ExponentialMovingAverage(model, 0.5)
    run = RunFolder(accelerator, arguments, processor)
    run.include(model, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), ema)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    ema.update(model)
    run.save_checkpoint(2)
    return ema.averages


@pytest.mark.parametrize("make_checkpoint", [checkpoint_of_the_trainer, checkpoint_of_a_plain_loop])
def test_the_averaged_weights_of_a_checkpoint_become_a_model(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_checkpoint: Callable[[Path, TCMImageProcessor], dict[str, torch.Tensor]],
) -> None:
    averages = make_checkpoint(tmp_path, TCMImageProcessor(do_resize=False, text_threshold=0.25))
    arguments = [str(tmp_path / "checkpoint-2"), "--output", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", ["checkpoint_to_model.py", *arguments])
    script.main()
    made = TCMForTextSpotting.from_pretrained(tmp_path / "model")
    assert made.config.fused
    shared = [name for name in made.state_dict() if name in averages]
    assert any(name.startswith("recognizer.") for name in shared)
    for name in shared:
        assert torch.equal(made.state_dict()[name], averages[name]), name
    assert TCMImageProcessor.from_pretrained(tmp_path / "model").text_threshold == 0.25
    assert not script.model_of(tmp_path / "checkpoint-2", fuse=False).config.fused


def test_what_is_no_checkpoint_is_named(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no config\.json and no model\.safetensors; expected"):
        script.model_of(tmp_path)
