"""`hub_configs/` is current, and each folder in it builds."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from transformers_tcm import (
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    TCMForTextDetection,
    TCMForTextSpotting,
)

ROOT = Path(__file__).parents[1]
SPOTTING_DATASETS = ("ctw1500", "icdar2015", "totaltext")
FOLDERS = sorted((ROOT / "hub_configs").iterdir())


def test_folders_are_what_the_script_writes() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_hub_configs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_a_folder_for_every_model() -> None:
    datasets = ("ctw1500", "icdar2015", "td500", "totaltext")
    full_size = {f"{variant}-dbnet-{dataset}" for variant in ("fasttcm", "tcm") for dataset in datasets}
    spotters = {f"fasttcm-{head}-{dataset}" for head in ("testr", "deepsolo") for dataset in SPOTTING_DATASETS}
    assert {folder.name for folder in FOLDERS} == full_size | spotters | {"fasttcm-dbnet-tiny", "fasttcm-spotter-tiny"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_is_complete(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
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


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_builds(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        if config.head_type == "dbnet":
            assert isinstance(AutoModelForTextDetection.from_config(config), TCMForTextDetection)
        assert isinstance(AutoModel.from_config(config), TCMForTextDetection)
    assert 0 < AutoImageProcessor.from_pretrained(folder).box_threshold < 1
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\n")
