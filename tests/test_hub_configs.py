"""`hub_configs/` is current, and each folder in it builds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from transformers_tcm import (
    AutoModelForOrientedObjectDetection,
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    TCMForOrientedObjectDetection,
    TCMForTextDetection,
    TCMForTextSpotting,
)
from transformers_tcm.models.tcm.heads import head_class

ROOT = Path(__file__).parents[1]
SPOTTING_DATASETS = ("ctw1500", "icdar2015", "totaltext")
FOLDERS = sorted((ROOT / "hub_configs").iterdir())


def test_folders_are_what_the_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_hub_configs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_a_folder_for_every_model() -> None:
    heads = {
        "dbnet": ("ctw1500", "icdar2015", "td500", "totaltext"),
        "pan": ("ctw1500", "icdar2015"),
        "fcenet": ("ctw1500", "icdar2015", "totaltext"),
    }
    full_size = {
        f"{prompting}-{head}-{dataset}"
        for prompting in ("fasttcm", "tcm")
        for head, datasets in heads.items()
        for dataset in datasets
    }
    spotters = {f"fasttcm-abinetpp-{dataset}" for dataset in ("ctw1500", "icdar2015", "totaltext")}
    spotters |= {f"fasttcm-abcnet-{dataset}" for dataset in ("ctw1500", "icdar2015", "totaltext")}
    spotters |= {f"fasttcm-masktextspotter3-{dataset}" for dataset in ("icdar2015", "totaltext")}
    spotters |= {f"fasttcm-{head}-{dataset}" for head in ("testr", "deepsolo") for dataset in SPOTTING_DATASETS}
    oriented = {f"fasttcm-rotated-{head}-dota" for head in ("fcos", "atss", "retinanet")}
    bundled = {"fasttcm-dbnet-tiny", "fasttcm-spotter-tiny"}
    assert {folder.name for folder in FOLDERS} == full_size | spotters | oriented | bundled


@pytest.mark.parametrize(("head", "published"), [("fcos", "75.1"), ("atss", "76.1"), ("retinanet", "70.99")])
def test_cards_for_dota_give_the_published_figure_its_source_and_that_it_is_not_reproduced(
    head: str, published: str
) -> None:
    card = (ROOT / "hub_configs" / f"fasttcm-rotated-{head}-dota" / "README.md").read_text(encoding="utf-8")
    assert f"| {published} | README of `rotated_object_detection`, github.com/wenwenyu/TCM |" in card
    assert "not reproduced here" in card
    assert "soccer ball field" in card


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_complete(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if path.suffix != ".yaml"}
    text_files = {"README.md", "config.json", "modeling_tcm_hub.py", "preprocessor_config.json"}
    assert names == text_files | ({"example.jpg"} if folder.name.endswith("tiny") else set())
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.model_name == folder.name or card.data.eval_results


@pytest.mark.parametrize("dataset", ["ctw1500", "icdar2015", "td500", "totaltext"])
def test_full_size_models_have_the_published_sizes(dataset: str) -> None:
    """CLIP RN50 with DBNet: 50.4 million parameters without the text tower, 114 million with it (TCM, CVPR 2023)."""
    curved = dataset in ("ctw1500", "totaltext")
    for variant in ("fasttcm", "tcm"):
        folder = ROOT / "hub_configs" / f"{variant}-dbnet-{dataset}"
        config = AutoConfig.from_pretrained(folder)
        processor = AutoImageProcessor.from_pretrained(folder)
        assert (config.prompting, config.num_context_tokens) == (variant, 32 if curved else 4)
        assert processor.polygon is curved
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(114e6, rel=0.01)


@pytest.mark.parametrize("dataset", SPOTTING_DATASETS)
def test_full_size_spotters_have_the_heads_of_their_papers(dataset: str) -> None:
    """The values of the released models without their image encoder, and the score map's columns in two projections."""
    curved_lines = dataset == "ctw1500"
    released = {
        "testr": 49_605_801 if curved_lines else 49_586_601,
        "deepsolo": 43_349_553 if curved_lines else 42_694_390,
    }
    for head, values in released.items():
        folder = ROOT / "hub_configs" / f"fasttcm-{head}-{dataset}"
        config, processor = AutoConfig.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
        with torch.device("meta"):
            model = AutoModelForTextSpotting.from_config(config)
        assert isinstance(model, TCMForTextSpotting)
        # What a release holds besides: constants of the position of characters.
        constants = 128 if head == "testr" else 0
        score_map = 256 + 9 * 256
        sizes = sum(parameter.numel() for parameter in model.head.parameters())
        assert sizes == values - 23_561_152 - constants + score_map
        assert processor.head_type == head
        assert processor.polygon is (dataset != "icdar2015")
        card = (folder / "README.md").read_text("utf-8")
        assert "Published figures; not reproduced here" in card


@pytest.mark.parametrize(
    "folder", [folder for folder in FOLDERS if "-abinetpp-" in folder.name or "-mask" in folder.name]
)
def test_full_size_spotters_are_those_of_their_papers(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert processor.head_type == config.head_type
    assert processor.text_threshold is not None
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    assert isinstance(model, TCMForTextSpotting)
    recognizer = model.recognizer.settings
    if config.head_type == "abcnet":
        assert config.head_config["pyramid"] == "bifpn"
        assert (recognizer.encoder, recognizer.max_length, recognizer.language_hidden_size) == ("map", 25, 512)
    else:
        assert (recognizer.map_size, recognizer.beam_width, processor.unclip_ratio) == ((8, 32), 6, 3.0)


@pytest.mark.parametrize(
    ("name", "settings", "decoding"),
    [
        ("tcm-pan-icdar2015", {"kernel_ratio": 0.5, "channels": 128}, {"max_distance": 3.0, "polygon": False}),
        ("fasttcm-pan-ctw1500", {"kernel_ratio": 0.7}, {"box_threshold": 0.6, "polygon": True}),
        ("tcm-fcenet-icdar2015", {"degree": 5, "channels": 256}, {"text_exponent": 1.2, "center_exponent": 1.0}),
        ("fasttcm-fcenet-totaltext", {"text_exponent": 1.2}, {"num_points": 50, "polygon": True}),
    ],
)
def test_settings_of_the_other_heads(name: str, settings: dict[str, float], decoding: dict[str, float]) -> None:
    config = AutoConfig.from_pretrained(ROOT / "hub_configs" / name)
    processor = AutoImageProcessor.from_pretrained(ROOT / "hub_configs" / name)
    assert f"-{config.head_type}-" in name
    assert processor.head_type == config.head_type
    assert settings.items() <= config.head_config.items()
    assert decoding.items() <= processor.to_dict().items()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_builds(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    is_oriented = folder.name.endswith("-dota")
    if is_oriented:
        auto, expected = AutoModelForOrientedObjectDetection, TCMForOrientedObjectDetection
    elif head_class(config.head_type).reads:
        auto, expected = AutoModelForTextSpotting, TCMForTextSpotting
    else:
        auto, expected = AutoModelForTextDetection, TCMForTextDetection
    with torch.device("meta"):
        assert isinstance(auto.from_config(config), expected)
        assert isinstance(AutoModel.from_config(config), expected)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert 0 < (processor.threshold if is_oriented else processor.box_threshold) < 1
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")
