"""All spotters of the paper's tables: each loads, learns, saves, loads again and reads a photo by the same pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_heads import HEAD_CONFIGS, RECOGNIZER_CONFIGS, SEQUENCE
from tiny_settings import SETTINGS
from transformers import pipeline

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model

PHOTO = Path(__file__).parents[3] / "examples" / "images" / "street.jpg"
STEPS = 20
ABINET = {**RECOGNIZER_CONFIGS["abinet"], "decoder": "abinet", "train_on_proposals": True}
MASKED = {**RECOGNIZER_CONFIGS["masked"], "decoder": "masked", "beam_width": 6}
# As small as each system can be, and the layer that says at each step which character it is, or none.
SPOTTERS: dict[str, tuple[dict[str, Any], str]] = {
    "ABCNet": (
        {"head_type": "abcnet", "head_config": HEAD_CONFIGS["abcnet"], "recognizer": SEQUENCE},
        "recognizer.decoder",
    ),
    "ABINet++": (
        {
            "head_type": "abcnet",
            "head_config": {**HEAD_CONFIGS["abcnet"], "pyramid": "bifpn"},
            "recognizer": ABINET,
        },
        "recognizer.decoder.fusion.classifier",
    ),
    "Mask TextSpotter v3": (
        {
            "head_type": "spn",
            "head_config": HEAD_CONFIGS["spn"],
            "recognizer": MASKED,
        },
        "recognizer.decoder.output",
    ),
    "TESTR": ({"head_type": "testr", "head_config": HEAD_CONFIGS["testr"]}, "head.text_head"),
    "DeepSolo": ({"head_type": "deepsolo", "head_config": HEAD_CONFIGS["deepsolo"]}, "head.text_head"),
}


def batch(config: TCMConfig) -> dict[str, Any]:
    """Two pictures of noise, each with a bright word."""
    processor = TCMImageProcessor(do_resize=False)
    rng, rows = np.random.default_rng(0), []
    for left, text in ((4, "ab"), (12, "cd")):
        image = rng.integers(0, 128, (64, 64, 3), dtype=np.uint8)
        image[12:40, left : left + 48] += 127
        quad = np.float32([[left, 12], [left + 48, 12], [left + 48, 40], [left, 40]])
        rows.append(process_for_model(processor, image, TextInstances([quad], texts=[text])))
    return TextDetectionCollator(config)(rows)


def train(model: TCMForTextSpotting) -> list[float]:
    """The loss of each step."""
    inputs, losses = batch(model.config), []
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("system", SPOTTERS)
def test_a_spotter_learns_and_reads_a_photo(system: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings, classifier = SPOTTERS[system]
    config = TCMConfig(**{**SETTINGS, **settings})
    TCMForTextSpotting(config).save_pretrained(tmp_path / "start")
    model = TCMForTextSpotting.from_pretrained(tmp_path / "start", dtype="float32")
    losses = train(model)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    # So little training reads nothing, unless what stands for nothing, the last class, is out of the question.
    model.get_submodule(classifier).bias.data[-1] = -20.0
    model.eval().save_pretrained(tmp_path / "trained")
    lowest = {"box_threshold": 0.0, "min_size": 0, "max_candidates": 5}
    processor = TCMImageProcessor(head_type=config.head_type, size={"longest_edge": 128}, text_threshold=0.0, **lowest)
    processor.save_pretrained(tmp_path / "trained")
    spotter = pipeline("text-spotting", model=str(tmp_path / "trained"), dtype=torch.float32)
    loaded = spotter.model.state_dict()
    assert all(torch.equal(weights, loaded[name]) for name, weights in model.state_dict().items())
    words, nearest = spotter(str(PHOTO)), spotter(str(PHOTO), lexicon=["friends"], lexicon_rule="nearest")
    assert 0 < len(words) <= 5
    assert all(word["text"] and len(word["polygon"]) >= 4 and 0 <= word["text_score"] <= 1 for word in words)
    assert [word["text"] for word in nearest] == ["friends"] * len(words)
