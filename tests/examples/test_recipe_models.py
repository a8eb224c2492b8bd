"""Every recipe of the examples names a model that can be made, whatever data it is trained on afterwards."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.training import PhotoArguments, TCMTrainingArguments, parse_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(path for path in EXAMPLES.glob("*/recipes/*.yaml") if path.stem != "language_model")
# The module of each folder, and its classes of settings; those of text detection share `PhotoArguments`.
SETTINGS: dict[str, tuple[str, list[str]]] = {
    "text-detection": ("detection_recipe", ["ModelArguments"]),
    "text-spotting": ("spotting_recipe", ["SpotterArguments", "SpottingPhotoArguments", "WordArguments"]),
    "oriented-object-detection": ("oriented_recipe", ["ModelArguments", "DataArguments"]),
}


def module(folder: str) -> ModuleType:
    name, _ = SETTINGS[folder]
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_the_model_of_a_recipe_can_be_made(recipe: Path, tmp_path: Path) -> None:
    folder, given = recipe.parents[1].name, yaml.safe_load(recipe.read_text())
    example = module(folder)
    classes = [getattr(example, name) for name in SETTINGS[folder][1]]
    if folder == "text-detection":
        classes.append(PhotoArguments)
    further = ["--output_dir", str(tmp_path), "--use_cpu", "--bf16", "false"]
    if recipe.stem.startswith("fasttcm_spotter_tiny"):  # stages, each of which goes on from the one before
        further += ["--model_name_or_path", "fasttcm-spotter-tiny"]
    options, *_ = parse_recipe(*classes, TCMTrainingArguments, arguments=[str(recipe), *further])
    labels = [["ship", "plane"]] if folder == "oriented-object-detection" else []
    model, image_processor = options.load(*labels)
    head = (given.get("config_overrides") or {}).get("head_type") or given.get("head_type")
    assert type(model.head) is (head_class(head) if head else type(model.head))
    assert image_processor.head_type == model.config.head_type


def test_a_detector_of_objects_keeps_the_prompting_of_its_checkpoint_unless_told(tmp_path: Path) -> None:
    arguments, names = module("oriented-object-detection").ModelArguments, ["ship", "plane"]
    start, _ = arguments(prompting="tcm").load(names)
    start.save_pretrained(tmp_path)
    assert arguments(model_name_or_path=str(tmp_path)).load(names)[0].config.prompting == "tcm"
    model, _ = arguments(model_name_or_path=str(tmp_path), prompting="none").load(names)
    assert model.config.prompting == "none"
    assert model.model.text_encoder is None
