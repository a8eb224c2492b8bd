"""`TCMTrainer`: the Trainer of transformers with layer-wise rates, averaged weights and evaluation by polygons."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import speed_metrics
from transformers.utils import logging

from ..data.collation import TextDetectionCollator
from ..data.datasets import StreamedTextCrops
from ..models.tcm.backends import emulates
from ..models.tcm.modeling_tcm import TCMDetector
from .ema import ExponentialMovingAverage
from .hub import HubTrainer
from .interruption import StopRequest, last_checkpoint
from .loading import prepare_training_loader
from .loss_terms import LossTerms
from .optimizers import OPTIMIZERS
from .parameter_groups import freeze_text_encoder, parameter_groups
from .scoring import BatchScores, score_batch, summarize
from .screen import TrainingBar
from .throughput import Throughput
from .time_limit import TimeLimit

logger = logging.get_logger(__name__)

__all__ = ["TCMTrainer", "TCMTrainingArguments", "create_optimizer", "create_scheduler"]


@dataclass
class TCMTrainingArguments(TrainingArguments):
    """`TrainingArguments` with what TCM adds.

    `resume_from_checkpoint` may be "last": the newest complete checkpoint in `output_dir`, or none if there is none.

    Args:
        image_encoder_scale: learning rate of the image encoder relative to the rest. Default: 0.1 where it comes from
            CLIP (`config.clip_pretrained`), else 1.
        ema_decay: decay of the moving average of the weights, 0 for none. Evaluated and saved are the averages.
        max_seconds: end after so many seconds, the learning rate where it would be after `max_steps`; see `TimeLimit`.
        optimizer: one of `OPTIMIZERS`, in place of what `optim` names.
        lr_milestones: shares of `max_steps` after each of which the learning rate falls to a tenth, in place of what
            `lr_scheduler_type` names.

    Raises:
        ValueError: if `max_seconds` is not positive, the optimizer is unknown, or a milestone is no share.
    """

    image_encoder_scale: float | None = field(
        default=None,
        metadata={"help": "Relative learning rate of the image encoder: by default 0.1 from CLIP, else 1."},
    )
    ema_decay: float = field(
        default=0.999,
        metadata={"help": "Decay of the moving average of the weights that is evaluated and saved; 0: none."},
    )

    max_seconds: float | None = field(
        default=None,
        metadata={"help": "End after so many seconds, with the learning rate at the end of its schedule by then."},
    )
    optimizer: str | None = field(default=None, metadata={"help": f"{', '.join(OPTIMIZERS)}, in place of --optim."})
    lr_milestones: list[float] = field(
        default_factory=list,
        metadata={"help": "Shares of the steps after which the learning rate falls to a tenth; no other schedule."},
    )

    def __post_init__(self) -> None:
        if self.optimizer is not None and self.optimizer not in OPTIMIZERS:
            raise ValueError(f"no optimizer {self.optimizer!r} here; there are {', '.join(OPTIMIZERS)}, or use --optim")
        if not all(0 < share <= 1 for share in self.lr_milestones):
            raise ValueError(
                f"--lr_milestones are shares of the steps, above 0 and at most 1; got {self.lr_milestones}"
            )
        if self.max_seconds is not None and self.max_seconds <= 0:
            raise ValueError(f"--max_seconds has to be positive, got {self.max_seconds}")
        if self.per_device_train_batch_size < 1:
            raise ValueError(f"--per_device_train_batch_size is at least 1, got {self.per_device_train_batch_size}")
        self.remove_unused_columns = False
        # Otherwise `bf16` is refused on a machine without an accelerator, although its processor may well know it.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.bf16 and self.use_cpu and emulates(torch.bfloat16):
            logger.warning("this processor has no instructions for bfloat16, which would slow it down: float32 instead")
            self.bf16 = False
        super().__post_init__()

    @property
    def step_size(self) -> int:
        """Items that an optimizer step of all processes takes."""
        processes: int = self.world_size
        return self.train_batch_size * self.gradient_accumulation_steps * processes

    @property
    def num_items(self) -> int:
        """Items that `max_steps` optimizer steps of all processes take; ValueError without `max_steps`."""
        if self.max_steps <= 0:
            raise ValueError("crops are drawn without end: give --max_steps, the number of optimizer steps")
        return self.max_steps * self.step_size


def create_optimizer(model: TCMDetector, arguments: TCMTrainingArguments) -> torch.optim.Optimizer:
    """The optimizer that the arguments name, with the rates and decays of `parameter_groups`."""
    rates = (arguments.learning_rate, arguments.weight_decay, arguments.image_encoder_scale)
    if arguments.optimizer is not None:
        return OPTIMIZERS[arguments.optimizer](parameter_groups(model, *rates), lr=arguments.learning_rate)
    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    optimizer: torch.optim.Optimizer = optimizer_class(parameter_groups(model, *rates), **settings)
    return optimizer


def create_scheduler(optimizer: torch.optim.Optimizer, arguments: TCMTrainingArguments) -> Any:
    """The schedule of the learning rate that the arguments name, over `max_steps` optimizer steps."""
    schedule: Any = arguments.lr_scheduler_kwargs
    steps = arguments.max_steps
    warmup = arguments.get_warmup_steps(steps)
    if arguments.lr_milestones:
        places = [round(share * steps) for share in arguments.lr_milestones]
        return LambdaLR(
            optimizer, lambda step: min(1.0, step / max(warmup, 1)) * 0.1 ** sum(step >= place for place in places)
        )
    return get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=schedule,
    )


class TCMTrainer(HubTrainer):
    """Trains a detector, a spotter or a detector of oriented objects, and evaluates it on photos.

    - Trains on items of `RandomTextCrops`, or of `StreamedTextCrops`, of which every process reads its own part;
      evaluates on `TextPhotos`; collates with the targets of the model's head, unless another `data_collator` is
      given. One without detection trains a spotter's recogniser alone, on `WordCollages` and `WordPhotos`.
    - Learning rates and weight decay by `parameter_groups`; the text tower is frozen where it comes from CLIP.
    - `evaluate` gives `eval_precision`, `eval_recall`, `eval_hmean` (ICDAR-2015 IoU, thresholds of the image
      processor) and `eval_loss`, for a spotter also `eval_end_to_end_hmean` and so on; for a recogniser alone
      `eval_word_accuracy` (without regard to case), `_word_accuracy_case_sensitive` and `_character_error_rate`.
    - With `ema_decay`, evaluation, `save_model` and `push_to_hub` use the averaged weights; checkpoints hold both.
    - With `push_to_hub`, complete repositories go to the Hub, see `transformers_tcm.hub.publishing`, and are
      waited for.
    - Logs with the loss its terms, see `LossTerms`, and `images_per_second`: of all processes, data loading included,
      evaluations and saving not.
    - SIGTERM and SIGINT take effect when the step is complete and saved, unless `save_strategy` is "no". A run that is
      resumed from any checkpoint takes the steps it would have taken without the break, to the last bit.

    Args:
        model: the detector.
        args: the settings.
        data_collator: in place of `TextDetectionCollator`.
        image_processor: saved with every checkpoint; its thresholds are those of the evaluation.
        **kwargs: as in `Trainer`, such as `train_dataset` and `eval_dataset`.
    """

    model: TCMDetector
    args: TCMTrainingArguments

    def __init__(
        self,
        model: TCMDetector,
        args: TCMTrainingArguments,
        data_collator: Callable[[list[dict[str, Any]]], dict[str, Any]] | None = None,
        *,
        image_processor: Any,
        **kwargs: Any,
    ):
        if model.config.clip_pretrained:
            freeze_text_encoder(model)
        collator = data_collator or TextDetectionCollator(model.config)
        super().__init__(model, args, collator, processing_class=image_processor, **kwargs)
        self.ema = ExponentialMovingAverage(model, args.ema_decay) if args.ema_decay else None
        self.throughput, self.stop, self.loss_terms = Throughput(), StopRequest(), LossTerms()
        self.time_limit = TimeLimit(args.max_seconds, args.max_steps)
        self.add_callback(_AfterSteps(self))
        if self.pop_callback(ProgressCallback) is not None:  # there is another one in a notebook, or none
            self.add_callback(TrainingBar())

    def get_train_dataloader(self) -> DataLoader[Any]:
        """See `Trainer.get_train_dataloader`; of a stream every process reads its own part."""
        if not isinstance(self.train_dataset, StreamedTextCrops):
            return super().get_train_dataloader()
        loader = DataLoader(
            self.train_dataset,
            self._train_batch_size,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        return prepare_training_loader(loader, self.accelerator)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `parameter_groups`."""
        if self.optimizer is None:
            self.optimizer = create_optimizer(self.model, self.args)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """See `create_scheduler`; there are `max_steps`."""
        if self.lr_scheduler is None and self.args.lr_milestones:
            self.lr_scheduler = create_scheduler(optimizer or self.create_optimizer(), self.args)
        return self.lr_scheduler or super().create_scheduler(num_training_steps, optimizer)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        """See `Trainer.compute_loss`; keeps the terms of the loss for the log."""
        loss, outputs = super().compute_loss(model, inputs, True, *args, **kwargs)
        self.loss_terms.add(outputs.get("loss_dict"))
        return (loss, outputs) if return_outputs else loss

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.train`; "last" as a checkpoint is that of `TCMTrainingArguments`."""
        if resume_from_checkpoint == "last":
            resume_from_checkpoint = last_checkpoint(str(self.args.output_dir), TRAINER_STATE_NAME)
        with self.stop.listening():
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """See `Trainer.log`; adds the terms and the throughput to the loss."""
        if "loss" in logs:
            logs.update(self.loss_terms.take(self.accelerator.gather))
            logs["images_per_second"] = round(self.throughput.take(), 3)
        super().log(logs, start_time)

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
            with self.ema.applied(self.model, synchronize=True):
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
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            # A checkpoint that holds the trainer's state, which is written last, counts as complete.
            (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
            if self.ema is not None:
                self.ema.save(folder)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_by_names_of_files(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self.state.best_model_checkpoint is not None:
            self._load_by_names_of_files(self.state.best_model_checkpoint)

    def _load_by_names_of_files(self, folder: str) -> None:
        """Load what the trainer of transformers leaves out: renamed weights, and the averages.

        A model that was loaded from a file with other names than its modules' is saved with those again (see
        `register_checkpoint_conversion_mapping`), which only `from_pretrained` reads.
        """
        in_parts = self.is_fsdp_enabled or self.is_deepspeed_enabled  # neither files nor weights are whole
        if isinstance(self.model, TCMDetector) and not in_parts:
            self.model.load_state_dict(type(self.model).from_pretrained(folder).state_dict())
        if self.ema is not None:
            self.ema.load(folder)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Names that are missing for the trainer of transformers are found by `_load_by_names_of_files`."""
        if not isinstance(self.model, TCMDetector):
            super()._issue_warnings_after_load(load_result)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the averaged weights; the trainer's own checkpoints keep the raw ones, to resume from."""
        if self.ema is None or _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        with self.ema.applied(self.model):
            super().save_model(output_dir, _internal_call)


class _AfterSteps(TrainerCallback):
    """After each optimizer step: moves the averages, counts the images, and stops where the process was asked to."""

    def __init__(self, trainer: TCMTrainer):
        self.trainer = trainer
        self.stopping = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stopping = False
        self.trainer.time_limit.start(self.trainer.lr_scheduler)
        self.trainer.throughput.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.ema is not None:
            self.trainer.ema.update(self.trainer.model)
        self.trainer.throughput.step(args.step_size)
        if self.trainer.time_limit.follow(self.trainer.lr_scheduler, self.trainer.accelerator):
            control.should_training_stop = True
        self.stopping = self.trainer.stop.agreed(self.trainer.accelerator)
        if self.stopping and args.save_strategy == "no":
            self.trainer.stop.deliver()
        control.should_save = control.should_save or self.stopping

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.throughput.start()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.stopping:
            self.trainer.stop.deliver()
        self.trainer.throughput.start()
