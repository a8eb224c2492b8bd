"""A head is one file and one line: one that the package has never seen goes all the way, from training to the card."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_head
from PIL import Image
from tiny_settings import SETTINGS
from training_fakes import training_arguments
from transformers import pipeline
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMImageProcessor, TextInstances
from transformers_tcm.cli import app
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.hub.model_card import CardDetails, Publication, model_card
from transformers_tcm.models.tcm.heads import HEADS
from transformers_tcm.training import TCMTrainer

WORDS = [np.float32([[8, 8], [40, 8], [40, 24], [8, 24]]), np.float32([[8, 32], [56, 32], [56, 56], [8, 56]])]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line, and the one file."""
    monkeypatch.setitem(HEADS, "toy", "ToyHead")
    monkeypatch.setitem(sys.modules, "transformers_tcm.models.tcm.heads.toy", toy_head)


def config() -> TCMConfig:
    settings = {name: value for name, value in SETTINGS.items() if name != "head_config"}
    return TCMConfig(**settings, head_type="toy", fused=True, id2label={0: "word", 1: "number"})


def detector() -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(config())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Model and processor as a training saves them."""
    model = detector()
    model.save_pretrained(tmp_path / "model")
    processor = TCMImageProcessor(do_resize=False, head_type="toy", stretch=3, box_threshold=0.0)
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def items(count: int) -> list[dict[str, Any]]:
    instances = TextInstances(WORDS, labels=np.array([0, 1]))
    return [process_for_model(TCMImageProcessor(do_resize=False), photo(), instances) for _ in range(count)]


def test_targets_of_any_size_and_of_each_class() -> None:
    labels = TextDetectionCollator(config())(items(3))["labels"]
    assert labels["toy_cells"].shape == (3, 2, 16, 16)
    assert labels["toy_coarser"].shape == (3, 2, 8, 8)
    assert labels["toy_cells"][0, 0, 3, 5] == 1  # a cell of the first word, which is of the first class
    assert labels["toy_cells"][0, 1, 3, 5] == 0


def test_it_trains(tmp_path: Path) -> None:
    model = detector()
    processor = TCMImageProcessor(do_resize=False).for_model(model.config)
    before = model.head.levels[0].weight.clone()
    arguments = training_arguments(tmp_path, max_steps=2, save_strategy="no")
    trainer = TCMTrainer(model, arguments, image_processor=processor, train_dataset=items(4), eval_dataset=items(2))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert not torch.equal(model.head.levels[0].weight, before)
    assert "eval_hmean" in trainer.evaluate()


def test_its_setting_is_stored_with_the_processor(saved: Path) -> None:
    processor = TCMImageProcessor.from_pretrained(saved)
    assert (processor.head_type, processor.stretch) == ("toy", 3)
    assert not hasattr(processor, "unclip_ratio")
    with pytest.raises(ValueError, match="`stretch` is 9"):
        TCMImageProcessor(head_type="toy", stretch=9)
    with pytest.raises(TypeError, match=r"unclip_ratio.*the settings of this head's decoding are.*stretch"):
        processor.decoding_settings(unclip_ratio=1.5)


def widths(found: list[dict[str, Any]]) -> set[float]:
    return {one["polygon"][1][0] - one["polygon"][0][0] for one in found if one["polygon"][0][0] == 0}


def test_the_pipeline_takes_its_setting(saved: Path) -> None:
    find = pipeline("text-detection", model=str(saved), dtype="float32")
    found = find(photo())
    assert {one["label"] for one in found} == {"word", "number"}
    assert widths(found) == {12.0}
    assert widths(find(photo(), stretch=2)) == {8.0}
    with pytest.raises(TypeError, match="unclip_ratio"):
        find(photo(), unclip_ratio=2)


def test_the_command_line_takes_its_setting(saved: Path, tmp_path: Path) -> None:
    photo().save(tmp_path / "photo.png")
    command = ["detect", str(tmp_path / "photo.png"), "--model", str(saved), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--decoding", "stretch=2.0"])
    assert result.exit_code == 0, result.output
    assert '"box"' in (tmp_path / "out" / "photo.json").read_text()
    refused = CliRunner().invoke(app, [*command, "--decoding", "stretch"])
    assert refused.exit_code == 2


def test_the_card_names_head_and_setting(saved: Path) -> None:
    processor = TCMImageProcessor.from_pretrained(saved)
    publication = Publication("toy", TCMConfig.from_pretrained(saved), processor, source='"org/toy"')
    card = str(model_card(publication, CardDetails("Nothing more.")))
    assert "ToyNet head" in card
    assert "| `stretch` | 3 |" in card
    assert "unclip_ratio" not in card


def test_levels_come_back_from_an_exported_graph() -> None:
    maps = detector().eval()(torch.randn(1, 3, 64, 64)).head_output
    processor = TCMImageProcessor(head_type="toy", box_threshold=0.0)
    plain = {f"cells.{level}": values.detach().numpy() for level, values in enumerate(maps.cells)}
    sizes = torch.tensor([[64, 64]])
    expected = processor.post_process_text_detection({"cells": maps.cells, "valid_sizes": sizes})
    found = processor.post_process_text_detection({**plain, "valid_sizes": sizes})
    assert len(found[0]["scores"]) == 2 * 16 * 16
    assert torch.equal(found[0]["scores"], expected[0]["scores"])


def test_presets_are_those_of_the_head() -> None:
    assert TCMConfig.from_preset("tiny", head_type="toy").head_config == {"hidden_channels": 4}
