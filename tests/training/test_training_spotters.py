"""Training of heads that read what they find: rates, decay, the loss falls, words are learned by heart."""

import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_heads import QUERIES
from tiny_settings import SETTINGS
from torch import nn
from training_fakes import Photos, training_arguments

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.training import TCMTrainer, parameter_groups

HEADS = ["testr", "deepsolo"]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HEAD_CONFIG: dict[str, Any] = {**QUERIES, "dropout": 0.0, "charset": "abc"}
# Steps in which eight words have to be learned by heart.
MOST_STEPS = 1000


def spotter(head: str, **changes: Any) -> TCMForTextSpotting:
    torch.manual_seed(0)
    settings = {**SETTINGS, "head_type": head, "head_config": {**HEAD_CONFIG, **changes}}
    return TCMForTextSpotting(TCMConfig(**settings))


@pytest.mark.parametrize("head", HEADS)
def test_matrices_of_attention_decay_and_offsets_learn_at_the_rate_of_the_paper(head: str) -> None:
    model = spotter(head)
    groups = parameter_groups(model, 1.0, 0.1)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    attention = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    assert attention
    for module in attention:
        assert decays[id(module.in_proj_weight)] == decays[id(module.out_proj.weight)] == 0.1
        assert decays[id(module.in_proj_bias)] == 0
    assert decays[id(model.head.point_embedding)] == decays[id(model.head.level_embedding)] == 0
    for name, parameter in model.head.named_parameters():
        slow = head == "testr" and "sampling_offsets" in name
        assert rates[id(parameter)] == (0.1 if slow else 1.0), name


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_falls_and_is_logged_by_layer(head: str, tmp_path: Path) -> None:
    """Within 20 steps, with gradients clipped as the papers do."""
    model = spotter(head)
    arguments = training_arguments(
        tmp_path, max_steps=20, learning_rate=2e-3, max_grad_norm=0.1, save_strategy="no", logging_steps=5
    )
    data = Photos(40, distinct=4)
    trainer = TCMTrainer(model, arguments, image_processor=Photos.processor, train_dataset=data)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(log) == 4
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]
    terms = {"loss_class", "loss_points", "loss_text", "loss_layer_0", "loss_proposal_class", "loss_score_map"}
    assert terms <= set(log[-1])
    parts = sum(value for name, value in log[-1].items() if name.startswith("loss_"))
    assert parts == pytest.approx(log[-1]["loss"], rel=1e-3)


def test_words_alone_teach_a_head_that_reads_nothing() -> None:
    item = {**Photos(1)[0], "train_detection": False}
    with pytest.raises(ValueError, match="no recogniser to train on words alone"):
        TextDetectionCollator(spotter("testr").config)([item])


def _photo(seed: int) -> tuple[np.ndarray, TextInstances]:
    """Two words in black on a bright ground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(200, 256, (96, 128, 3), dtype=np.uint8)
    words, texts = [], [["exit", "sale"], ["bar", "taxi"], ["open", "park"], ["shop", "bus"]][seed]
    for row, text in enumerate(texts):
        x, y = int(rng.integers(4, 30)), 34 + 44 * row
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0, 0, 0), 2)
        top, bottom = y - height - 2, y + below
        words.append(np.float32([[x, top], [x + width, top], [x + width, bottom], [x, bottom]]))
    return image, TextInstances(words, texts=texts)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_words_of_four_photos_are_learned_by_heart(head: str) -> None:
    """All words are read exactly, within steps that take at most six minutes of one thread."""
    torch.manual_seed(0)
    learner = runpy.run_path(str(BENCHMARKS / "curved_words.py"))  # as small as one that can
    settings = learner["HEAD"] | learner["FURTHER"][head]
    vision = {**SETTINGS["vision_config"], "width": 16}
    config = TCMConfig(**{**SETTINGS, "vision_config": vision, "head_type": head, "head_config": settings})
    model = TCMForTextSpotting(config)
    photos, words = zip(*(_photo(seed) for seed in range(4)), strict=True)
    processor = TCMImageProcessor(do_resize=False, text_threshold=0.0).for_model(config)
    items = [process_for_model(processor, *pair) for pair in zip(photos, words, strict=True)]
    batch = TextDetectionCollator(config)(items)
    groups = parameter_groups(model, learner["LEARNING_RATE"], 1e-4, image_encoder_scale=1.0)
    optimizer = torch.optim.AdamW(groups, fused=True)
    read: list[list[str]] = []
    expected = [sorted(one.texts or []) for one in words]
    for _ in range(MOST_STEPS // 50):
        learn(model.train(), optimizer, batch, steps=50)
        with torch.no_grad():
            outputs = model.eval()(batch["pixel_values"], batch.get("pixel_mask"))
        read = [sorted(found["texts"]) for found in processor.post_process_text_spotting(outputs)]
        if read == expected:
            break
    assert read == expected


def learn(model: TCMForTextSpotting, optimizer: torch.optim.Optimizer, batch: dict[str, Any], steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
