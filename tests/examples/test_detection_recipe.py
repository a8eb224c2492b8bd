"""The model of a training: where its weights come from."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny_settings import LEARNING

from transformers_tcm import TCMConfig, TCMForTextDetection

FOLDER = Path(__file__).parents[2] / "examples" / "text-detection"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import detection_recipe

    return detection_recipe


def test_a_new_model_starts_with_the_weights_of_another(recipe: ModuleType, tmp_path: Path) -> None:
    start = TCMForTextDetection(TCMConfig(**LEARNING, prompting="none"))
    start.save_pretrained(tmp_path)
    arguments = recipe.ModelArguments(
        config_overrides=json.dumps({**LEARNING, "prompting": "tcm"}), initial_weights=str(tmp_path)
    )
    model, _ = arguments.load()
    assert model.config.prompting == "tcm"
    own = dict(model.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in start.model.named_parameters(prefix="model"))


def test_a_checkpoint_goes_on_without_prompting(recipe: ModuleType, tmp_path: Path) -> None:
    """The layer on C5, which the score map no longer widens, starts anew; the others are those of the checkpoint."""
    start = TCMForTextDetection(TCMConfig(**LEARNING, prompting="tcm"))
    start.save_pretrained(tmp_path)
    recipe.TCMImageProcessor().for_model(start.config).save_pretrained(tmp_path)
    arguments = recipe.ModelArguments(model_name_or_path=str(tmp_path), config_overrides='{"prompting": "none"}')
    model, _ = arguments.load()
    assert model.config.prompting == "none"
    before, after = dict(start.named_parameters()), dict(model.named_parameters())
    anew = {name for name in after if before[name].shape != after[name].shape}
    assert anew
    assert all(name.startswith("head.neck") for name in anew)
    assert all(torch.equal(before[name], weight) for name, weight in after.items() if name not in anew)


def test_a_checkpoint_has_its_own_weights(recipe: ModuleType) -> None:
    arguments = recipe.ModelArguments(model_name_or_path="bundled", initial_weights="bundled")
    with pytest.raises(ValueError, match="give one of them"):
        arguments.load()
