"""The example that makes a model of a checkpoint."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from training_fakes import Photos, spotter, training_arguments

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import TCMTrainer, TrainingLoop

SCRIPT = Path(__file__).parents[2] / "examples" / "text-spotting" / "checkpoint_to_model.py"


@pytest.fixture
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("checkpoint_to_model", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("engine", ["trainer", "loop"])
def test_the_averaged_weights_of_a_checkpoint_become_a_model(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    model, arguments = spotter(), training_arguments(tmp_path, max_steps=2, save_steps=2)
    processor = TCMImageProcessor(do_resize=False, text_threshold=0.25)
    if engine == "trainer":
        trainer = TCMTrainer(model, arguments, train_dataset=Photos(), image_processor=processor)
        trainer.train()
        averages = trainer.ema.averages
    else:
        loop = TrainingLoop(arguments, model, processor, TextDetectionCollator(model.config))
        loop.train(Photos(arguments.num_items))
        averages = loop.ema.averages
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
