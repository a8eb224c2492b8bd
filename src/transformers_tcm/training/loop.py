"""`TrainingLoop`: what `TCMTrainer` does, as a plain loop on Accelerate."""

import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import get_scheduler

from ..models.tcm.modeling_tcm import TCMForTextDetection
from .ema import ExponentialMovingAverage
from .interruption import StopRequest, last_checkpoint
from .loss_terms import LossTerms
from .parameter_groups import freeze_text_encoder
from .scoring import BatchScores, score_batch, summarize
from .throughput import Throughput
from .trainer import TCMTrainingArguments, create_optimizer

__all__ = ["TrainingLoop"]

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
PROGRESS_FILE = "progress.json"  # written last: a checkpoint without it is incomplete


@dataclass
class Progress:
    """What a checkpoint holds besides weights, averages, optimizer, schedule and the state of the random numbers.

    Args:
        step: optimizer steps that were made.
        best: best value of `metric_for_best_model`.
        losses: of the batches that have not been logged yet.
        terms: the sums of their loss terms, in this process.
    """

    step: int = 0
    best: float | None = None
    losses: list[float] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)


class TrainingLoop:
    """Trains, evaluates and saves a detector or spotter on a CPU, a GPU, or several processes.

    Of `TrainingArguments` it heeds the steps, batch sizes, rates and schedule, optimizer, precision, seed, clipping,
    data workers, the steps between logs, evaluations and checkpoints, and what to do with these. Figures go to
    `log.jsonl` in `output_dir`.

    With P processes, a step with batches of B images, accumulated A times, uses the images of one process with
    batches of B, accumulated P x A times, and follows the same gradient: each batch of B is normalised by its own
    statistics, and the losses of the batches are averaged. One batch of P x B is not quite the same, because batch
    norms, hard negatives and the dice loss look at a batch as a whole.

    Args:
        arguments: the settings; `max_steps` is required.
        model: a detector or spotter.
        image_processor: saved with the model; its thresholds are those of the evaluation.
        collate: makes batches of items, see `TextDetectionCollator`.
    """

    def __init__(
        self,
        arguments: TCMTrainingArguments,
        model: TCMForTextDetection,
        image_processor: Any,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    ):
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self.arguments, self.image_processor, self.collate = arguments, image_processor, collate
        self.output = Path(str(arguments.output_dir))
        self.accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            gradient_accumulation_steps=arguments.gradient_accumulation_steps,
            cpu=arguments.use_cpu,
            # A recogniser that is trained alone leaves most of the detector without gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if model.config.clip_pretrained:
            freeze_text_encoder(model)
        optimizer = create_optimizer(model, arguments)
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.model: TCMForTextDetection = self.accelerator.unwrap_model(self.wrapped)
        # Not prepared, because Accelerate would move it on by a step for each process.
        schedule: Any = arguments.lr_scheduler_kwargs
        self.scheduler = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=arguments.get_warmup_steps(arguments.max_steps),
            num_training_steps=arguments.max_steps,
            scheduler_specific_kwargs=schedule,
        )
        self.accelerator.register_for_checkpointing(self.scheduler)
        # A decay of 0 makes the averages the weights.
        self.ema = ExponentialMovingAverage(self.model, arguments.ema_decay)
        self.progress = Progress()
        self.throughput, self.stop = Throughput(), StopRequest()
        self._losses: list[torch.Tensor] = []
        self._terms = LossTerms()
        self.output.mkdir(parents=True, exist_ok=True)

    def run(self, train_data: Any, eval_data: Any) -> None:
        """Train, evaluate and save, as `do_train` and `do_eval` say.

        Args:
            train_data: the items, `num_items` of the arguments; not used without `do_train`.
            eval_data: a `TextPhotos`, or `None`.
        """
        eval_loader = None if eval_data is None else self.loader(eval_data, self.arguments.per_device_eval_batch_size)
        if self.arguments.do_train:
            self.train(train_data, eval_loader)
            self._load_best()
        if self.arguments.do_eval and eval_loader is not None:
            self.evaluate(eval_loader)
        if self.arguments.do_train:
            self.save_model()
        self.accelerator.end_training()

    def train(self, data: Any, eval_loader: DataLoader[Any] | None = None) -> None:
        """All steps that are left; every item is used once, in the order in which the Trainer draws them.

        SIGTERM and SIGINT take effect when the step is complete and, unless `save_strategy` is "no", saved.

        Raises:
            ValueError: unless there are as many items as the steps take, `num_items` of the arguments.
        """
        if len(data) != self.arguments.num_items:
            raise ValueError(f"{self.arguments.max_steps} steps take {self.arguments.num_items} items, got {len(data)}")
        self._resume()
        done = self.progress.step * self.arguments.step_size
        left = Subset(data, _item_order(self.arguments, len(data))[done:])
        hidden = self.arguments.disable_tqdm or not self.accelerator.is_local_main_process
        bar = tqdm(total=self.arguments.max_steps, initial=self.progress.step, disable=hidden)
        with self.stop.listening():
            self.throughput.start()
            for batch in self.loader(left, self.arguments.per_device_train_batch_size):
                self._learn(batch)
                if self.accelerator.sync_gradients:
                    self.progress.step += 1
                    bar.update()
                    self._after_step(eval_loader)

    def _learn(self, batch: dict[str, Any]) -> None:
        """A batch, and where it completes a step, the step."""
        self.wrapped.train()
        with self.accelerator.accumulate(self.wrapped):
            outputs = self.wrapped(**batch)
            loss = outputs.loss
            self._terms.add(outputs.loss_dict)
            self._losses.append(loss.detach())
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients and self.arguments.max_grad_norm:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self.scheduler.step()
            self.ema.update(self.model)

    def _after_step(self, eval_loader: DataLoader[Any] | None) -> None:
        """Log, evaluate, save or stop where it is time for it."""
        self.throughput.step(self.arguments.step_size)
        if self._is_time("logging"):
            losses, rate = self._gathered_losses(), self.scheduler.get_last_lr()[-1]
            speed = self.throughput.take()
            terms = self._terms.take(self.accelerator.gather)
            figures = {"learning_rate": rate, "images_per_second": round(speed, 3)}
            self.report(loss=sum(losses) / len(losses), **terms, **figures)
            self._losses.clear()
        if self._is_time("eval") and eval_loader is not None:
            self._keep_if_best(self.evaluate(eval_loader))
        stopping = self.stop.agreed(self.accelerator)
        if self._is_time("save") or (stopping and self.arguments.save_strategy != "no"):
            self._save_checkpoint()
        if stopping:
            self.stop.deliver()
        self.throughput.start()

    def _is_time(self, what: str) -> bool:
        """Whether to log ("logging"), evaluate ("eval") or save ("save") after this step."""
        if getattr(self.arguments, f"{what}_strategy") != "steps":
            return False
        every = getattr(self.arguments, f"{what}_steps")
        every = math.ceil(every * self.arguments.max_steps) if every < 1 else int(every)  # a share, or a number
        return self.progress.step % every == 0

    def _gathered_losses(self) -> list[float]:
        """The losses of the batches since the last log, each the mean of all processes."""
        if not self._losses:
            return []
        processes = self.accelerator.num_processes
        gathered: torch.Tensor = self.accelerator.gather(torch.stack(self._losses))  # (processes x batches,)
        means: list[float] = gathered.view(processes, -1).mean(dim=0).tolist()
        return means

    @torch.no_grad()
    def evaluate(self, loader: DataLoader[Any]) -> dict[str, float]:
        """Figures of the averaged weights on the photos of a loader, see `TCMTrainer`."""
        self.model.eval()
        scores = BatchScores()
        self.ema.synchronize()
        with self.ema.applied(self.model):
            for batch in loader:
                with self.accelerator.autocast():
                    scores += score_batch(self.model, self.image_processor, batch).gathered(self.accelerator)
        metrics = {f"eval_{name}": value for name, value in summarize(scores).items()}
        self.report(**metrics)
        return metrics

    def loader(self, data: Any, batch_size: int) -> DataLoader[Any]:
        """Batches of all items in their order; each process gets its share."""
        loader: DataLoader[Any] = DataLoader(
            data,
            batch_size,
            collate_fn=self.collate,
            num_workers=self.arguments.dataloader_num_workers,
            # A generator of its own, so that a resumed run goes on with the random numbers of the checkpoint.
            generator=torch.Generator().manual_seed(self.arguments.seed),
            pin_memory=self.arguments.dataloader_pin_memory and self.accelerator.device.type == "cuda",
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def _keep_if_best(self, metrics: dict[str, float]) -> None:
        """Save the model if it is the best so far and `load_best_model_at_end` asks for that one."""
        if not self.arguments.load_best_model_at_end:
            return
        value = metrics["eval_" + str(self.arguments.metric_for_best_model).removeprefix("eval_")]
        sign = 1 if self.arguments.greater_is_better else -1
        if self.progress.best is None or sign * value > sign * self.progress.best:
            self.progress.best = value
            self.save_model()

    def _load_best(self) -> None:
        """Go back to the model that `_keep_if_best` saved, if it did."""
        if self.progress.best is not None:
            self.accelerator.wait_for_everyone()
            best = type(self.model).from_pretrained(self.output, dtype="float32")
            self.model.load_state_dict(best.state_dict())
            self.ema = ExponentialMovingAverage(self.model, self.arguments.ema_decay)

    def save_model(self) -> None:
        """Write the averaged weights, the configuration and the image processor to `output_dir`."""
        if self.accelerator.is_main_process:
            with self.ema.applied(self.model):
                self.model.save_pretrained(self.output)
            self.image_processor.save_pretrained(self.output)

    def _save_checkpoint(self) -> None:
        """Write what `--resume_from_checkpoint` needs, and drop the oldest checkpoints beyond `--save_total_limit`."""
        folder = self.output / f"checkpoint-{self.progress.step}"
        # Renamed when complete, so that a full disk leaves the checkpoints that there are as they were.
        incomplete = self.output / f"incomplete-{folder.name}"
        self.progress.losses = self._gathered_losses()
        self.progress.terms = {name: float(value) for name, value in self._terms.sums.items()}
        self.accelerator.save_state(str(incomplete))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.ema.save(incomplete)
            (incomplete / PROGRESS_FILE).write_text(json.dumps(asdict(self.progress)), encoding="utf-8")
            if folder.exists():  # of a run that went on from an earlier step
                shutil.rmtree(folder)
            incomplete.rename(folder)
            checkpoints = sorted(self.output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            for old in checkpoints[: -(self.arguments.save_total_limit or len(checkpoints))]:
                shutil.rmtree(old)

    def _resume(self) -> None:
        """Go back to a checkpoint, if the arguments name one, and drop later figures from the log."""
        folder = self.arguments.resume_from_checkpoint
        if folder == "last":
            folder = last_checkpoint(self.output, PROGRESS_FILE)
        if folder:
            self.accelerator.load_state(folder)
            self.ema.load(folder)
            self.progress = Progress(**json.loads((Path(folder) / PROGRESS_FILE).read_text(encoding="utf-8")))
            self._losses = list(torch.tensor(self.progress.losses, device=self.accelerator.device))
            self._terms = LossTerms(self.progress.terms, len(self._losses))
        log = self.output / LOG_FILE
        if self.accelerator.is_main_process and log.is_file():
            lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= self.progress.step]
            log.write_text("".join(kept) if folder else "", encoding="utf-8")

    def report(self, **figures: float) -> None:
        """Print figures and add them to `log.jsonl`."""
        if self.accelerator.is_main_process:
            line = json.dumps({"step": self.progress.step, **figures})
            logger.info(line)
            with (self.output / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _item_order(arguments: TCMTrainingArguments, count: int) -> Sequence[int]:
    """The order in which the Trainer draws items."""
    if arguments.train_sampling_strategy == "sequential":
        return range(count)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
