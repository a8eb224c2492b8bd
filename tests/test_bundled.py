"""The model that ships: small, fused, complete, and able to find words."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors import safe_open
from transformers import pipeline

from transformers_tcm import TextInstances, bundled_model_path
from transformers_tcm.evaluation import DetectionIoU

IMAGES = Path(__file__).parents[1] / "examples" / "images"


def test_detector_is_small_and_fused() -> None:
    weights = bundled_model_path("fasttcm-dbnet-tiny") / "model.safetensors"
    assert weights.stat().st_size <= 16_000_000
    with safe_open(weights, framework="pt") as file:
        assert "model.fused_text_embedding" in file.keys()  # noqa: SIM118 (not a dict)
        assert not [name for name in file.keys() if "text_encoder" in name]  # noqa: SIM118


def test_card_states_what_was_measured() -> None:
    card = ModelCard.load(bundled_model_path("fasttcm-dbnet-tiny") / "README.md")
    (result,) = card.data.eval_results
    assert result.metric_type == "hmean"
    assert f"| {result.metric_value:.3f} |" in card.text
    assert "transformers-tcm evaluate" in card.text


def test_detector_finds_most_words_of_the_demo_photo() -> None:
    row = json.loads((IMAGES / "street.jsonl").read_text(encoding="utf-8"))
    found = pipeline("text-detection")(IMAGES / row["image"])
    metric = DetectionIoU()
    metric.update(TextInstances.from_json(row), TextInstances.from_detections(found))
    result = metric.compute()
    assert result.recall >= 0.6
    assert result.precision >= 0.6


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "README.md", "model.safetensors"])
def test_folder_is_complete(name: str) -> None:
    assert (bundled_model_path("fasttcm-dbnet-tiny") / name).stat().st_size > 0
