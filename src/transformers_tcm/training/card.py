"""What a trainer can say about its own run in a model card."""

from typing import Any

from transformers import Trainer

from ..data.datasets import RandomTextCrops
from ..data.rendering.rows import RenderedRows
from ..hub.model_card import CardDetails, eval_result

__all__ = ["training_details"]

# Metrics of `TCMTrainer.evaluate`, and what they are to the Hub.
FIGURES = {
    "hmean": ("text detection", "hmean"),
    "precision": ("text detection", "precision"),
    "recall": ("text detection", "recall"),
    "end_to_end_hmean": ("text spotting", "hmean"),
    "word_accuracy": ("word recognition", "accuracy"),
}


def training_details(
    trainer: Trainer,
    dataset: str = "held-back photos",
    license: str | None = None,
    finetuned_from: str | None = None,
    tags: list[str] | None = None,
    dataset_tags: list[str] | None = None,
) -> CardDetails:
    """Data, recipe and the figures of the last evaluation of a run.

    Args:
        trainer: after training, or in the middle of it.
        dataset: what was evaluated on, in words.
        license: of the weights.
        finetuned_from: name on the Hub of the model that the training started from.
        tags: more tags of the card.
        dataset_tags: names on the Hub of the training data.
    """
    metrics: dict[str, Any] = next((log for log in reversed(trainer.state.log_history) if "eval_loss" in log), {})
    measured = {name: metrics[f"eval_{name}"] for name in FIGURES if f"eval_{name}" in metrics}
    sections = [_data(trainer, dataset), _recipe(trainer), _results(measured, dataset, metrics.get("step"))]
    return CardDetails(
        text="\n".join(section for section in sections if section),
        eval_results=[eval_result(*FIGURES[name], value, dataset, "photos") for name, value in measured.items()],
        license=license,
        base_model=finetuned_from,
        datasets=dataset_tags or [],
        tags=tags or [],
    )


def _data(trainer: Trainer, dataset: str) -> str:
    train: Any = trainer.train_dataset
    evaluation: Any = trainer.eval_dataset
    lines = []
    if isinstance(train, RandomTextCrops):
        for rows, weight in zip(train.sources, train.weights, strict=True):
            photos = "rendered photos" if isinstance(rows, RenderedRows) else f"{len(rows)} photos"
            lines.append(f"- {photos} for {weight:.0%} of the training crops.")
    elif hasattr(train, "__len__"):
        lines.append(f"- {len(train)} training examples.")
    if evaluation is not None:
        lines.append(f"- {len(evaluation)} examples to evaluate on: {dataset}.")
    return "\n".join(["## Data", "", *lines, ""]) if lines else ""


def _recipe(trainer: Trainer) -> str:
    arguments: Any = trainer.args
    state = trainer.state
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    precision = "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"
    rows: dict[str, Any] = {
        "optimiser steps": f"{state.global_step} of {state.max_steps}" if state.max_steps else state.global_step,
        "batch": batch,
        "learning rate": f"{arguments.learning_rate:g}",
        "relative learning rate of the image encoder": arguments.image_encoder_scale,
        "schedule": getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type),
        "warm-up": arguments.warmup_steps or None,
        "weight decay": f"{arguments.weight_decay:g}",
        "optimiser": getattr(arguments.optim, "value", arguments.optim),
        "moving average of the weights": arguments.ema_decay or None,
        "precision": precision,
        "seed": arguments.seed,
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["## Recipe", "", "| | |", "| --- | --- |", *lines, ""])


def _results(measured: dict[str, float], dataset: str, step: int | None) -> str:
    lines = [f"| {', '.join(FIGURES[name])} | {value:.4f} |" for name, value in measured.items()]
    if not lines:
        return ""
    intro = (
        f"Measured on {dataset} after {step} steps, at the thresholds above; detection by the ICDAR-2015 IoU protocol."
    )
    return "\n".join(["## Results", "", intro, "", "| | |", "| --- | --- |", *lines, ""])
