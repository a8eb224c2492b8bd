"""Averages, parameter groups and the trainer."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_fakes import Photos, detector, spotter, state, training_arguments

from transformers_tcm import TCMForTextDetection, TCMImageProcessor
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import (
    ExponentialMovingAverage,
    TCMTrainer,
    TCMTrainingArguments,
    freeze_all_but,
    freeze_detector,
    freeze_text_encoder,
    parameter_groups,
)
from transformers_tcm.training import trainer as trainer_module


def trainer(
    folder: Path, model: TCMForTextDetection | None = None, train_detection: bool = True, **changes
) -> TCMTrainer:
    model = model or detector()
    return TCMTrainer(
        model=model,
        args=training_arguments(folder, **changes),
        data_collator=None if train_detection else TextDetectionCollator(model.config, train_detection=False),
        train_dataset=Photos(),
        eval_dataset=Photos(),
        image_processor=Photos.processor,
    )


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


def test_parts_that_alone_are_trained() -> None:
    model = spotter(word_boundaries=True)
    freeze_all_but(model, ["recognizer.boundaries", "head"])
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith(("recognizer.bound", "head."))}
    decaying = parameter_groups(model, 1.0, 0.1)[2]["params"]
    assert any(weight is model.recognizer.boundaries.narrow.weight for weight in decaying)
    with pytest.raises(ValueError, match=r"no part 'recognizer.bound' to train; its parts are .*recognizer.boundaries"):
        freeze_all_but(model, ["recognizer.bound"])


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


@pytest.mark.parametrize("halves", [1, 2])
def test_accumulated_gradients_are_averages(tmp_path: Path, halves: int) -> None:
    """A step over accumulated batches follows the mean of their gradients, and logs the mean of their losses.

    Batch norms use the statistics of each batch, in the step as here; dropout is off.
    """
    model = detector(decoder_dropout=0.0)
    run = trainer(
        tmp_path,
        model,
        max_steps=1,
        per_device_train_batch_size=4 // halves,
        gradient_accumulation_steps=halves,
        train_sampling_strategy="sequential",
        max_grad_norm=1e9,
    )
    reference = copy.deepcopy(model).train()
    collate, photos = TextDetectionCollator(model.config), Photos()
    losses = []
    for start in range(0, 4, 4 // halves):
        batch = collate([photos[index] for index in range(start, start + 4 // halves)])
        losses.append(reference(**batch).loss)
        (losses[-1] / halves).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in reference.parameters() if p.grad is not None])
    run.train()
    assert not model.accepts_loss_kwargs
    logged = run.state.log_history[0]
    assert logged["loss"] == pytest.approx(sum(losses).item() / halves, rel=1e-5)
    assert logged["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_accumulated_halves_equal_the_whole_where_both_halves_are_alike(tmp_path: Path) -> None:
    """Batch norms, hard negatives and the dice loss look at a whole batch: halves with the same photos see the same."""
    settings = {"max_steps": 1, "ema_decay": 0.0, "max_grad_norm": 1e9, "train_sampling_strategy": "sequential"}
    runs = [
        trainer(
            tmp_path / str(size),
            detector(decoder_dropout=0.0),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            **settings,
        )
        for size in (4, 2)
    ]
    for run in runs:
        run.train_dataset = Photos(4, distinct=2)
        run.train()
    one, two = (run.state.log_history[0] for run in runs)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_throughput_is_logged_with_the_loss(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=4, logging_steps=2, eval_strategy="steps", eval_steps=2)
    run.train()
    rates = [entry["images_per_second"] for entry in run.state.log_history if "loss" in entry]
    assert len(rates) == 2
    assert min(rates) > 0
    assert not any("images_per_second" in entry for entry in run.state.log_history if "eval_loss" in entry)


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_where_the_processor_computes_with_it(
    emulated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    monkeypatch.setattr(trainer_module, "emulates", lambda _: emulated)
    monkeypatch.setattr(trainer_module.logger, "warning", messages.append)
    arguments = TCMTrainingArguments(output_dir=str(tmp_path), bf16=True, use_cpu=True)
    assert arguments.bf16 is not emulated
    assert len(messages) == emulated
