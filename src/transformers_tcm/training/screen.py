"""What a training says: once what it is about to do, then a progress bar, and a line for each evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import ProgressCallback

from ..data.datasets import RandomTextCrops, StreamedTextCrops, TextPhotos
from ..data.object_datasets import AerialPatches, OrientedImages
from ..data.word_crops import MixedDataset, WordCollages, WordPhotos
from ..models.tcm.heads import head_class
from .recipes import words_of_rows

__all__ = ["TrainingBar", "bar_figures", "describe_run", "evaluation_line"]

_PROMPTING = {"fasttcm": "FastTCM", "tcm": "TCM", "none": "unprompted"}
# What is measured of the computer, not of the model.
_NOT_FIGURES = ("runtime", "per_second")


class TrainingBar(ProgressCallback):
    """The progress bar of the Trainer, with the loss and the speed in it in place of a line for each log."""

    training_bar: Any

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Losses into the bar, an evaluation on a line of its own."""
        if self.training_bar is None or not logs:
            return
        if "loss" in logs:
            self.training_bar.set_postfix(bar_figures(logs))
        elif any(name.startswith("eval_") for name in logs):
            self.training_bar.write(evaluation_line(logs, state.global_step))


def bar_figures(logs: Mapping[str, float]) -> dict[str, str]:
    """What the bar shows of a log."""
    return {name: f"{logs[name]:.3g}" for name in ("loss", "images_per_second") if name in logs}


def evaluation_line(metrics: Mapping[str, float], step: int) -> str:
    """The figures of an evaluation in one line."""
    figures = [
        f"{name.removeprefix('eval_').replace('_', ' ')} {value:.4f}"
        for name, value in metrics.items()
        if name.startswith("eval_") and not name.endswith(_NOT_FIGURES)
    ]
    return f"step {step}: {', '.join(figures)}"


def describe_run(
    model: Any, arguments: Any, train_data: Any, eval_data: Any, recipe: str | None = None, start: str | None = None
) -> str:
    """One screen: model, recipe, data and sizes of a training, and where its results will be.

    Args:
        model: a TCM model.
        arguments: `TCMTrainingArguments`.
        train_data: items to train on, or `None`.
        eval_data: what to evaluate on, or `None`.
        recipe: the file that the settings come from.
        start: name of the checkpoint that the training starts from.
    """
    lines = {
        "model": _model(model, start),
        "recipe": _recipe(arguments, recipe),
        "train on": _data(train_data) + ("" if arguments.do_train else "; not trained, as --do_train is not given"),
        "evaluate on": _data(eval_data) + ("" if eval_data is None else f", {_when(arguments, 'eval')}"),
        "computer": _computer(arguments),
        "output": f"{Path(str(arguments.output_dir))}, a checkpoint {_when(arguments, 'save')}",
    }
    return "\n".join(f"{name:<12} {text}" for name, text in lines.items())


def _model(model: Any, start: str | None) -> str:
    config = model.config
    kind = "spotter" if config.is_spotter else "detector"
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    origin = "new" if start is None else f"from {start}"
    return (
        f"{_PROMPTING[config.prompting]} with {head_class(config.head_type).display_name}, a {kind}, {origin}: "
        f"{total / 1e6:.2f} million parameters, {trained / 1e6:.2f} million of them trained"
    )


def _recipe(arguments: Any, recipe: str | None) -> str:
    precision = "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32"
    schedule = getattr(arguments.lr_scheduler_type, "value", arguments.lr_scheduler_type)
    return (
        f"{recipe or 'of the command line'}: {arguments.max_steps} steps of {arguments.step_size} images, learning "
        f"rate {arguments.learning_rate:g} ({schedule}), {precision}, seed {arguments.seed}"
    )


def _data(data: Any) -> str:
    if data is None:
        return "nothing"
    parts = _parts(data)
    shares = [f"{text} ({share:.0%})" if len(parts) > 1 else text for share, text in parts]
    return ", ".join(shares)


def _parts(data: Any) -> list[tuple[float, str]]:
    """Share of the items, and what they are, of each source."""
    if isinstance(data, MixedDataset):
        pairs = zip(data.weights.tolist(), data.datasets, strict=True)
        return [(weight * share, text) for weight, part in pairs for share, text in _parts(part)]
    if isinstance(data, RandomTextCrops):
        side = " x ".join(map(str, data.augmentation.crop_size))
        counts = [(len(rows), sum(1 for _ in words_of_rows(rows))) for rows in data.sources]
        texts = [
            f"{_count(photos, 'photo')} with {_count(words, 'word')} in crops of {side}" for photos, words in counts
        ]
        return list(zip(data.weights.tolist(), texts, strict=True))
    if isinstance(data, StreamedTextCrops):
        return [(1.0, f"a stream of photos in crops of {' x '.join(map(str, data.augmentation.crop_size))}")]
    if isinstance(data, (WordCollages, WordPhotos)):
        return [(1.0, _count(len(data.words), "word crop"))]
    if isinstance(data, (AerialPatches, OrientedImages)):
        return [(1.0, _count(len(data.rows), "aerial image"))]
    return [(1.0, _count(len(data), "photo" if isinstance(data, TextPhotos) else "item"))]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _when(arguments: Any, what: str) -> str:
    """How often it is evaluated ("eval") or saved ("save")."""
    if getattr(arguments, f"{what}_strategy") == "steps":
        return f"every {getattr(arguments, f'{what}_steps'):g} steps"
    return "at the end" if what == "eval" else "at no step"


def _computer(arguments: Any) -> str:
    workers = arguments.dataloader_num_workers
    return (
        f"{arguments.device}, {_count(torch.get_num_threads(), 'thread')}; processes: {arguments.world_size} to train, "
        f"{workers} to load the data"
    )
