"""`TCMTrainer`: the Trainer of transformers with layer-wise rates, averaged weights and evaluation by polygons."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import speed_metrics

from ..data.collation import TextDetectionCollator
from ..models.tcm.modeling_tcm import TCMForTextDetection
from .ema import ExponentialMovingAverage
from .parameter_groups import freeze_text_encoder, parameter_groups
from .scoring import BatchScores, score_batch, summarize

__all__ = ["TCMTrainer", "TCMTrainingArguments"]


@dataclass
class TCMTrainingArguments(TrainingArguments):
    """`TrainingArguments` with what TCM adds.

    Args:
        image_encoder_scale: learning rate of the image encoder relative to the rest. Default: 0.1 where it comes from
            CLIP (`config.clip_pretrained`), else 1.
        ema_decay: decay of the moving average of the weights, 0 for none. Evaluated and saved are the averages.
    """

    image_encoder_scale: float | None = field(
        default=None,
        metadata={"help": "Relative learning rate of the image encoder: by default 0.1 from CLIP, else 1."},
    )
    ema_decay: float = field(
        default=0.999,
        metadata={"help": "Decay of the moving average of the weights that is evaluated and saved; 0: none."},
    )

    def __post_init__(self) -> None:
        self.remove_unused_columns = False
        # Otherwise `bf16` is refused on a machine without an accelerator, although its processor may well know it.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()

    @property
    def num_items(self) -> int:
        """Items that `max_steps` optimizer steps of all processes take; ValueError without `max_steps`."""
        if self.max_steps <= 0:
            raise ValueError("crops are drawn without end: give --max_steps, the number of optimizer steps")
        return self.max_steps * self.train_batch_size * self.gradient_accumulation_steps * self.world_size


class TCMTrainer(Trainer):
    """Trains a `TCMForTextDetection` or `TCMForTextSpotting` and evaluates it on photos.

    - Trains on items of `RandomTextCrops`, evaluates on `TextPhotos`; collates with the targets of the model's head,
      unless another `data_collator` is given. One without detection trains a spotter's recogniser alone, on
      `WordCollages` and `WordPhotos`.
    - Learning rates and weight decay by `parameter_groups`; the text tower is frozen where it comes from CLIP.
    - `evaluate` gives `eval_precision`, `eval_recall`, `eval_hmean` (ICDAR-2015 IoU, thresholds of the image
      processor) and `eval_loss`, for a spotter also `eval_end_to_end_hmean` and so on; for a recogniser alone
      `eval_word_accuracy` (without regard to case), `_word_accuracy_case_sensitive` and `_character_error_rate`.
    - With `ema_decay`, evaluation and `save_model` use the averaged weights; checkpoints hold both.

    Args:
        model: the detector.
        args: the settings.
        data_collator: in place of `TextDetectionCollator`.
        image_processor: saved with every checkpoint; its thresholds are those of the evaluation.
        **kwargs: as in `Trainer`, such as `train_dataset` and `eval_dataset`.
    """

    model: TCMForTextDetection
    args: TCMTrainingArguments

    def __init__(
        self,
        model: TCMForTextDetection,
        args: TCMTrainingArguments,
        data_collator: Callable | None = None,
        *,
        image_processor: Any,
        **kwargs: Any,
    ):
        if model.config.clip_pretrained:
            freeze_text_encoder(model)
        collator = data_collator or TextDetectionCollator(model.config)
        super().__init__(model, args, collator, processing_class=image_processor, **kwargs)
        self.ema = ExponentialMovingAverage(model, args.ema_decay) if args.ema_decay else None
        if self.ema is not None:
            self.add_callback(_UpdateAverages(self.ema))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `parameter_groups`."""
        if self.optimizer is None:
            rates = (self.args.learning_rate, self.args.weight_decay, self.args.image_encoder_scale)
            groups = parameter_groups(self.model, *rates)
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = optimizer_class(groups, **settings)
        return self.optimizer

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Find, or read, the text in every photo and compare it with the labels.

        Args:
            eval_dataset: a `TextPhotos` in place of the trainer's own.
            ignore_keys: not used.
            metric_key_prefix: first part of the names of the metrics.

        Returns:
            The figures of the class's documentation, and the speed.
        """
        start = time.time()
        loader = self.get_eval_dataloader(eval_dataset)
        was_training = self.model.training
        self.model.eval()
        if self.ema is None:
            scores, images = self._score_all(loader)
        else:
            with self.ema.applied(self.model):
                scores, images = self._score_all(loader)
        self.model.train(was_training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in summarize(scores).items()}
        metrics.update(speed_metrics(metric_key_prefix, start, num_samples=images))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _score_all(self, loader: Any) -> tuple[BatchScores, int]:
        """What all batches of all processes add to the figures, and the number of images."""
        total = BatchScores()
        hidden = self.args.disable_tqdm or not self.is_local_process_zero()
        for batch in tqdm(loader, desc="Evaluating", leave=False, disable=hidden):
            with self.compute_loss_context_manager():
                scores = score_batch(self.model, self.processing_class, self._prepare_inputs(batch))
            total += scores.gathered(self.accelerator)
        return total, len(loader.dataset)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.ema is not None and self.args.should_save:
            self.ema.save(Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.ema is not None:
            self.ema.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.ema is not None and self.state.best_model_checkpoint is not None:
            self.ema.load(self.state.best_model_checkpoint)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the averaged weights; the trainer's own checkpoints keep the raw ones, to resume from."""
        if self.ema is None or _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        with self.ema.applied(self.model):
            super().save_model(output_dir, _internal_call)


class _UpdateAverages(TrainerCallback):
    """Moves the averages after each optimizer step."""

    def __init__(self, ema: ExponentialMovingAverage):
        self.ema = ema

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ema.update(kwargs["model"])
