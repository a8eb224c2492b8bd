"""The model of a training: where its weights come from."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from transformers_tcm import TCMConfig, TCMForTextDetection

FOLDER = Path(__file__).parents[2] / "examples" / "text-detection"
SIZES = {
    "vision_config": {"width": 8, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4},
    "text_config": {"hidden_size": 16, "intermediate_size": 32, "projection_dim": 32, "num_attention_heads": 2},
    "decoder_hidden_size": 32,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 32, "hidden_channels": 8},
}


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import detection_recipe

    return detection_recipe


def test_a_new_model_starts_with_the_weights_of_another(recipe: ModuleType, tmp_path: Path) -> None:
    start = TCMForTextDetection(TCMConfig(**SIZES, prompting="none"))
    start.save_pretrained(tmp_path)
    arguments = recipe.ModelArguments(
        config_overrides=json.dumps({**SIZES, "prompting": "tcm"}), initial_weights=str(tmp_path)
    )
    model, _ = arguments.load()
    assert model.config.prompting == "tcm"
    own = dict(model.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in start.model.named_parameters(prefix="model"))


def test_a_checkpoint_has_its_own_weights(recipe: ModuleType) -> None:
    arguments = recipe.ModelArguments(model_name_or_path="bundled", initial_weights="bundled")
    with pytest.raises(ValueError, match="give one of them"):
        arguments.load()
