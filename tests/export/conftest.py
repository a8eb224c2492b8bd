"""A tiny spotter that takes every image for one big word, as weights and exported to ONNX by the command."""

from pathlib import Path

import pytest
import torch
from tiny_settings import RECOGNIZER, SMALLEST
from typer.testing import CliRunner

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessorPil
from transformers_tcm.cli import app

LANGUAGE_MODEL = {"context": 3, "embedding_size": 4, "hidden_size": 8, "margins": [0.05]}


@pytest.fixture(scope="session")
def spotter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, configuration, settings of the image processor and a card."""
    torch.manual_seed(0)
    recognizer = {**RECOGNIZER, "max_length": 5, "language_model": LANGUAGE_MODEL}
    model = TCMForTextSpotting(TCMConfig(**SMALLEST, recognizer=recognizer))
    with torch.no_grad():
        model.head.probability[-1].weight.mul_(0.01)
        model.head.probability[-1].bias.fill_(3.0)
    folder = tmp_path_factory.mktemp("spotter")
    model.save_pretrained(folder)
    TCMImageProcessorPil(size={"longest_edge": 160}, box_threshold=0.55, text_threshold=0.0).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Tiny\n\n## Use\n\nAs it is.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def exported_folder(spotter_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as graphs."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    arguments = ["export", "onnx", "--model", str(spotter_folder), "--output", str(folder)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "detector: differs from torch by at most" in result.output
    return folder
