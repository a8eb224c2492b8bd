"""Train a TCM text spotter with a plain loop on Accelerate: the recipes and the results of `run_text_spotting.py`.

    accelerate launch run_text_spotting_no_trainer.py recipes/fasttcm_spotter_tiny_recognizer.yaml --train_words ...

Arguments are the same. Of those of `TrainingArguments` it heeds the steps, batch sizes, rates and schedule, precision,
seed, clipping, data workers, the steps between logs, evaluations and checkpoints, and what to do with these.
"""

import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from spotting_recipe import (
    SpotterArguments,
    SpottingPhotoArguments,
    WordArguments,
    check,
    collator,
    evaluation_data,
    save_fused,
    training_data,
)
from torch.utils.data import DataLoader, Subset
from tqdm.auto import tqdm
from transformers import get_scheduler, set_seed

from transformers_tcm import TCMForTextSpotting
from transformers_tcm.training import (
    BatchScores,
    ExponentialMovingAverage,
    TCMTrainingArguments,
    freeze_text_encoder,
    parameter_groups,
    parse_recipe,
    score_batch,
    summarize,
)

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a checkpoint holds besides weights, averages, optimizer and schedule."""

    step: int = 0
    best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Training:
    """Everything that a run needs, and its loop."""

    def __init__(self, arguments: TCMTrainingArguments, model: TCMForTextSpotting, image_processor: Any, collate: Any):
        self.arguments, self.image_processor, self.collate = arguments, image_processor, collate
        self.accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            gradient_accumulation_steps=arguments.gradient_accumulation_steps,
            cpu=arguments.use_cpu,
            # A recogniser that is trained alone leaves most of the detector without gradients.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        if model.config.clip_pretrained:
            freeze_text_encoder(model)
        rates = (arguments.learning_rate, arguments.weight_decay, arguments.image_encoder_scale)
        betas = (arguments.adam_beta1, arguments.adam_beta2)
        optimizer = torch.optim.AdamW(parameter_groups(model, *rates), betas=betas, eps=arguments.adam_epsilon)
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.model = self.accelerator.unwrap_model(self.wrapped)
        # Not prepared, because Accelerate would move it on by a step for each process.
        self.scheduler = get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=arguments.get_warmup_steps(arguments.max_steps),
            num_training_steps=arguments.max_steps,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
        # A decay of 0 makes the averages the weights.
        self.ema = ExponentialMovingAverage(self.model, arguments.ema_decay)
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.scheduler, self.progress)

    def loader(self, data: Any, batch_size: int) -> DataLoader:
        """Batches of all items in their order; each process gets its share."""
        loader = DataLoader(
            data,
            batch_size,
            collate_fn=self.collate,
            num_workers=self.arguments.dataloader_num_workers,
            # Workers are seeded from here, for a resumed run to draw the same jitter as one without a break.
            generator=torch.Generator().manual_seed(self.arguments.seed),
        )
        return self.accelerator.prepare(loader)

    def train(self, data: Any, eval_loader: DataLoader | None) -> None:
        """All steps that are left; every item is used once, in the order of `item_order`."""
        arguments = self.arguments
        if arguments.resume_from_checkpoint:
            self.accelerator.load_state(arguments.resume_from_checkpoint)
            self.ema.load(arguments.resume_from_checkpoint)
        done = self.progress.step * len(data) // arguments.max_steps
        left = Subset(data, item_order(arguments, len(data))[done:])
        losses: list[torch.Tensor] = []
        hidden = arguments.disable_tqdm or not self.accelerator.is_local_main_process
        bar = tqdm(total=arguments.max_steps, initial=self.progress.step, disable=hidden)
        for batch in self.loader(left, arguments.per_device_train_batch_size):
            losses.append(self.learn(batch))
            if not self.accelerator.sync_gradients:
                continue
            self.progress.step += 1
            bar.update()
            if self.is_time("logging"):
                loss = self.accelerator.gather(torch.stack(losses)).mean()
                self.report(loss=loss.item(), learning_rate=self.scheduler.get_last_lr()[-1])
                losses.clear()
            if self.is_time("eval") and eval_loader is not None:
                self.keep_if_best(self.evaluate(eval_loader))
            if self.is_time("save"):
                self.save_checkpoint()

    def learn(self, batch: dict[str, Any]) -> torch.Tensor:
        """The loss of a batch, and where it completes a step, the step."""
        self.wrapped.train()
        with self.accelerator.accumulate(self.wrapped):
            loss = self.wrapped(**batch).loss
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients and self.arguments.max_grad_norm:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.accelerator.sync_gradients:
            self.scheduler.step()
            self.ema.update(self.model)
        return loss.detach()

    def is_time(self, what: str) -> bool:
        """Whether to log ("logging"), evaluate ("eval") or save ("save") after this step."""
        if getattr(self.arguments, f"{what}_strategy") != "steps":
            return False
        every = getattr(self.arguments, f"{what}_steps")
        every = math.ceil(every * self.arguments.max_steps) if every < 1 else int(every)  # a share, or a number
        return self.progress.step % every == 0

    @torch.no_grad()
    def evaluate(self, loader: DataLoader) -> dict[str, float]:
        """Figures of the averaged weights."""
        self.model.eval()
        scores = BatchScores()
        with self.ema.applied(self.model):
            for batch in loader:
                with self.accelerator.autocast():
                    scores += score_batch(self.model, self.image_processor, batch).gathered(self.accelerator)
        metrics = {f"eval_{name}": value for name, value in summarize(scores).items()}
        self.report(**metrics)
        return metrics

    def keep_if_best(self, metrics: dict[str, float]) -> None:
        """Save the model if it is the best so far and `load_best_model_at_end` asks for that one."""
        if not self.arguments.load_best_model_at_end:
            return
        value = metrics["eval_" + str(self.arguments.metric_for_best_model).removeprefix("eval_")]
        sign = 1 if self.arguments.greater_is_better else -1
        if self.progress.best is None or sign * value > sign * self.progress.best:
            self.progress.best = value
            self.save_model()

    def load_best(self) -> None:
        """Go back to the model that `keep_if_best` saved, if it did."""
        if self.progress.best is not None:
            self.accelerator.wait_for_everyone()
            best = TCMForTextSpotting.from_pretrained(self.arguments.output_dir, dtype="float32")
            self.model.load_state_dict(best.state_dict())
            self.ema = ExponentialMovingAverage(self.model, self.arguments.ema_decay)

    def save_model(self) -> None:
        """Write the averaged weights, the configuration and the image processor."""
        if self.accelerator.is_main_process:
            with self.ema.applied(self.model):
                self.model.save_pretrained(self.arguments.output_dir)
            self.image_processor.save_pretrained(self.arguments.output_dir)

    def save_checkpoint(self) -> None:
        """Write what `--resume_from_checkpoint` needs, and drop the oldest checkpoints beyond `--save_total_limit`."""
        output = Path(self.arguments.output_dir)
        folder = output / f"checkpoint-{self.progress.step}"
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            self.ema.save(folder)
            checkpoints = sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            for old in checkpoints[: -(self.arguments.save_total_limit or len(checkpoints))]:
                shutil.rmtree(old)

    def report(self, **figures: float) -> None:
        """Print figures and add them to `log.jsonl`."""
        if self.accelerator.is_main_process:
            line = json.dumps({"step": self.progress.step, **figures})
            logger.info(line)
            with (Path(self.arguments.output_dir) / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def item_order(arguments: TCMTrainingArguments, count: int) -> Sequence[int]:
    """The order in which the Trainer draws items."""
    if arguments.train_sampling_strategy == "sequential":
        return range(count)
    seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def main() -> None:
    spotter, photos, words, arguments = parse_recipe(
        SpotterArguments, SpottingPhotoArguments, WordArguments, TCMTrainingArguments
    )
    check(spotter, photos, words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    set_seed(arguments.seed)
    model, image_processor = spotter.load()
    model.to(memory_format=torch.channels_last)
    set_seed(arguments.seed)  # again, because a new model draws numbers and a loaded one does not
    run = Training(arguments, model, image_processor, collator(spotter, model))
    eval_data = evaluation_data(spotter, photos, words, image_processor)
    eval_loader = None if eval_data is None else run.loader(eval_data, arguments.per_device_eval_batch_size)
    if arguments.do_train:
        data = training_data(photos, words, image_processor, arguments.num_items, arguments.seed)
        run.train(data, eval_loader)
        run.load_best()
    if arguments.do_eval and eval_loader is not None:
        run.evaluate(eval_loader)
    if arguments.do_train:
        run.save_model()
        if spotter.fuse and model.config.variant == "fasttcm" and run.accelerator.is_main_process:
            save_fused(arguments.output_dir)
    run.accelerator.end_training()


if __name__ == "__main__":
    main()
