"""The example that averages models."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from spotting_fakes import tiny_spotter_config

from transformers_tcm import TCMForTextSpotting, TCMImageProcessor

SCRIPT = Path(__file__).parents[2] / "examples" / "text-spotting" / "average_models.py"


@pytest.fixture
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("average_models", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def saved(folder: Path, seed: int, **recognizer: object) -> TCMForTextSpotting:
    torch.manual_seed(seed)
    model = TCMForTextSpotting(tiny_spotter_config(**recognizer))
    model.save_pretrained(folder)
    TCMImageProcessor(text_threshold=seed / 10).save_pretrained(folder)
    return model


def test_weights_are_averaged(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [saved(tmp_path / str(seed), seed) for seed in (1, 2)]
    counter = next(name for name in models[1].state_dict() if name.endswith("num_batches_tracked"))
    models[1].state_dict()[counter].fill_(7)
    models[1].save_pretrained(tmp_path / "2")
    folders = [str(tmp_path / "1"), str(tmp_path / "2")]
    arguments = [*folders, "--shares", "3", "1", "--output", str(tmp_path / "mean")]
    monkeypatch.setattr(sys, "argv", ["average_models.py", *arguments])
    script.main()
    mean = TCMForTextSpotting.from_pretrained(tmp_path / "mean").state_dict()
    first, second = (model.state_dict() for model in models)
    for name, weight in mean.items():
        if weight.is_floating_point():
            torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * second[name], msg=name)
        else:
            assert torch.equal(weight, first[name]), name
    assert TCMImageProcessor.from_pretrained(tmp_path / "mean").text_threshold == 0.1


def test_what_does_not_fit_is_named(script: ModuleType, tmp_path: Path) -> None:
    saved(tmp_path / "1", 1)
    saved(tmp_path / "2", 2, hidden_size=32)
    folders = [tmp_path / "1", tmp_path / "2"]
    with pytest.raises(ValueError, match="a positive share for each of 2 models"):
        script.average(folders, [1.0])
    with pytest.raises(ValueError, match=r"2 has other weights than .*1, such as recognizer\."):
        script.average(folders, [1.0, 1.0])
