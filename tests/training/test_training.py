"""Averages, parameter groups and the trainer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from transformers_tcm import TCMConfig, TCMForTextDetection, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import (
    ExponentialMovingAverage,
    TCMTrainer,
    TCMTrainingArguments,
    freeze_detector,
    freeze_text_encoder,
    parameter_groups,
)

SETTINGS = {
    "vision_config": {"width": 4, "depths": [1, 1, 1, 1], "projection_dim": 16, "num_attention_heads": 4},
    "text_config": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "projection_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "decoder_hidden_size": 16,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "head_config": {"neck_channels": 16, "hidden_channels": 4, "min_short_side": 4},
}


RECOGNIZER = {
    "crop_size": [8, 32],
    "channels": [8, 12, 16],
    "num_blocks": [0, 0, 0],
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
}


def detector(**changes) -> TCMForTextDetection:
    torch.manual_seed(0)
    return TCMForTextDetection(TCMConfig(**{**SETTINGS, **changes}))


def spotter(**recognizer) -> TCMForTextSpotting:
    torch.manual_seed(0)
    return TCMForTextSpotting(TCMConfig(**SETTINGS, recognizer={**RECOGNIZER, **recognizer}))


class Photos(Dataset):
    """White words on noise, always the same."""

    processor = TCMImageProcessor(do_resize=False)
    word = np.float32([[12, 16], [52, 16], [52, 40], [12, 40]])

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        image = np.random.default_rng(index).integers(0, 100, (64, 64, 3), dtype=np.uint8)
        image[16:40, 12:52] = 255
        instances = TextInstances([self.word], texts=["ab"], ignore=np.array([False]))
        batch = self.processor(image, annotations=instances, return_tensors="pt")
        return {name: batch[name][0] for name in ("pixel_values", "pixel_mask", "labels")}


def trainer(
    folder: Path, model: TCMForTextDetection | None = None, train_detection: bool = True, **changes
) -> TCMTrainer:
    settings = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 3e-3,
        "save_steps": 3,
        "logging_steps": 1,
        "use_cpu": True,
        "ema_decay": 0.5,
        "disable_tqdm": True,
    }
    arguments = TCMTrainingArguments(**{**settings, **changes})
    model = model or detector()
    return TCMTrainer(
        model=model,
        args=arguments,
        data_collator=None if train_detection else TextDetectionCollator(model.config, train_detection=False),
        train_dataset=Photos(),
        eval_dataset=Photos(),
        image_processor=Photos.processor,
    )


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def test_average_follows_the_weights() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = ExponentialMovingAverage(model, decay=0.9)
    nn.init.constant_(model.weight, 1.0)
    ema.update(model)  # the first step keeps 2/11 of the old average
    with ema.applied(model):
        torch.testing.assert_close(model.weight.data, torch.full((1, 2), 9 / 11))
    torch.testing.assert_close(model.weight.data, torch.ones(1, 2))


def test_average_round_trip_and_other_model(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    ema = ExponentialMovingAverage(model, decay=0.9)
    model.weight.data += 1
    ema.update(model)
    ema.save(tmp_path)
    other = ExponentialMovingAverage(nn.Linear(2, 2), decay=0.9)
    assert other.load(tmp_path)
    assert other.num_updates == 1
    assert torch.equal(other.averages["weight"], ema.averages["weight"])
    with pytest.raises(ValueError, match="another model"):
        ExponentialMovingAverage(nn.Linear(2, 2, bias=False), decay=0.9).load(tmp_path)
    assert not other.load(tmp_path / "nothing")


def test_bad_decay_is_named() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 1.0"):
        ExponentialMovingAverage(nn.Linear(1, 1), decay=1.0)


def test_groups_hold_every_trained_parameter_once() -> None:
    model = detector()
    freeze_text_encoder(model)
    groups = parameter_groups(model, 1.0, 0.1, image_encoder_scale=0.1)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (0.1, 0.1),
        (0.1, 0.0),
        (1.0, 0.1),
        (1.0, 0.0),
    ]
    assert all(p.ndim > 1 for group in groups if group["weight_decay"] for p in group["params"])
    undecayed = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    base = model.model
    prompts = [base.meta_query, base.text_encoder.context, base.backbone.attention_pool.positional_embedding]
    assert all(id(prompt) in undecayed for prompt in prompts)
    assert not any(p.requires_grad for p in base.text_encoder.text_model.parameters())


def test_clip_weights_freeze_the_text_tower(tmp_path: Path) -> None:
    model = detector(clip_pretrained=True)
    frozen = model.model.text_encoder.text_model.embeddings.token_embedding.weight
    before, meta_query = frozen.clone(), model.model.meta_query.clone()
    run = trainer(tmp_path, model)
    assert run.create_optimizer().param_groups[0]["lr"] == pytest.approx(3e-4)
    run.train()
    assert torch.equal(frozen, before)
    assert not torch.equal(model.model.meta_query, meta_query)


def test_evaluation_counts_words(tmp_path: Path) -> None:
    """A model that finds nothing, then one whose head is made to answer with the targets."""
    run = trainer(tmp_path)
    metrics = run.evaluate()
    assert metrics["eval_recall"] == 0
    assert metrics["eval_loss"] > 0

    def perfect(module, arguments, output):
        output.prob_map = torch.zeros_like(output.prob_map)
        output.prob_map[:, :, 20:36, 16:48] = 1.0
        return output

    run.model.head.register_forward_hook(perfect)
    assert run.evaluate()["eval_hmean"] == 1.0


def test_default_rate_of_the_image_encoder() -> None:
    """A tenth where it comes from CLIP."""
    for clip_pretrained, expected in ((True, 0.2), (False, 2.0)):
        groups = parameter_groups(detector(clip_pretrained=clip_pretrained), 2.0, 0.1)
        assert [group["lr"] for group in groups] == [expected, expected, 2.0, 2.0]


def test_a_frozen_detector_leaves_its_groups_empty() -> None:
    model = spotter(decoder="attention")
    freeze_detector(model)
    encoder_decays, encoder, decays, rest = (group["params"] for group in parameter_groups(model, 1.0, 0.1))
    assert encoder_decays == encoder == []
    assert {id(parameter) for parameter in decays + rest} == {id(p) for p in model.recognizer.parameters()}
    assert any(parameter is model.recognizer.decoder.output.weight for parameter in decays)
    assert any(parameter is model.recognizer.decoder.embedding.weight for parameter in rest)


def test_a_spotter_is_evaluated_end_to_end(tmp_path: Path) -> None:
    run = trainer(tmp_path, spotter())
    metrics = run.evaluate()
    figures = {"precision", "recall", "hmean", "end_to_end_precision", "end_to_end_recall", "end_to_end_hmean"}
    assert {f"eval_{name}" for name in figures | {"loss"}} <= set(metrics)
    assert metrics["eval_end_to_end_recall"] == 0


def test_a_recogniser_alone_is_evaluated_on_words(tmp_path: Path) -> None:
    run = trainer(tmp_path, spotter(), train_detection=False)
    metrics = run.evaluate(metric_key_prefix="test")
    assert metrics["test_word_accuracy"] == metrics["test_word_accuracy_case_sensitive"] == 0
    assert metrics["test_character_error_rate"] > 0
    assert "test_hmean" not in metrics


@pytest.mark.parametrize("decoder", ["ctc", "attention"])
def test_a_recogniser_learns_the_word_of_all_photos(tmp_path: Path, decoder: str) -> None:
    """On a frozen detector, of which nothing moves, whose averages stay what they were."""
    model = spotter(decoder=decoder, dropout=0.0, charset="abc")
    freeze_detector(model)
    before = state(model)
    run = trainer(tmp_path, model, train_detection=False, max_steps=80, learning_rate=1e-2, save_strategy="no")
    run.train()
    after = run.evaluate()
    assert after["eval_word_accuracy"] == 1
    moved = {name for name, tensor in state(run.model).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("recognizer.") for name in moved)
    assert all(torch.equal(run.ema.averages[name], before[name]) for name in before if name.startswith("head."))


@pytest.mark.slow
@pytest.mark.parametrize("make", [detector, spotter])
def test_resumed_run_equals_an_unbroken_one(tmp_path: Path, make: Callable[[], TCMForTextDetection]) -> None:
    whole = trainer(tmp_path / "whole", make())
    whole.train()
    broken = trainer(tmp_path / "broken", make())
    broken.train()
    resumed = trainer(tmp_path / "broken", make())
    resumed.train(resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-3"))
    for name, tensor in state(whole.model).items():
        torch.testing.assert_close(state(resumed.model)[name], tensor, msg=name)
    for name, average in whole.ema.averages.items():
        torch.testing.assert_close(resumed.ema.averages[name], average, msg=name)


def test_loss_falls_and_the_averages_are_saved(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=20, learning_rate=1e-2)
    run.train()
    losses = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    run.save_model()
    saved = TCMForTextDetection.from_pretrained(tmp_path)
    for name, average in run.ema.averages.items():
        torch.testing.assert_close(saved.state_dict()[name], average, msg=name)
    assert TCMImageProcessor.from_pretrained(tmp_path).to_dict()["image_processor_type"] == "TCMImageProcessor"


def test_accumulated_gradients_equal_one_large_batch(tmp_path: Path) -> None:
    """Losses are averages, so that two half batches give about the gradient norm of one whole."""
    common = {"max_steps": 1, "ema_decay": 0.0, "max_grad_norm": 1e9}
    whole = trainer(tmp_path / "a", per_device_train_batch_size=4, **common)
    halves = trainer(tmp_path / "b", per_device_train_batch_size=2, gradient_accumulation_steps=2, **common)
    for run in (whole, halves):
        run.train()
    one, two = (run.state.log_history[0] for run in (whole, halves))
    assert two["loss"] == pytest.approx(one["loss"], rel=0.05)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=0.3)
