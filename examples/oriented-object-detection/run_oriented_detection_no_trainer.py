"""Train a TCM detector of oriented objects with a plain loop on Accelerate, as `run_oriented_detection.py` does.

    accelerate launch run_oriented_detection_no_trainer.py recipes/rotated_fcos.yaml --train_images patches/images ...

Arguments are the same; the loop heeds those of the `TrainingArguments` that it names. Read it, and change it.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from oriented_recipe import DataArguments, ModelArguments, evaluation_images, names_of, save_fused
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import set_seed

from transformers_tcm import TCMForOrientedObjectDetection
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import (
    ExponentialMovingAverage,
    RunFolder,
    StopRequest,
    TCMTrainingArguments,
    Throughput,
    TimeLimit,
    create_optimizer,
    create_scheduler,
    describe_run,
    freeze_text_encoder,
    parse_recipe,
    recipe_file,
    score_photos,
    stop_evaluation,
)


def main() -> None:
    detector, data, arguments = parse_recipe(ModelArguments, DataArguments, TCMTrainingArguments)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    rows, model, image_processor = prepare(detector, data)
    # Patch i depends on the seed and on i alone: there is nothing to shuffle.
    patches = data.training_patches(rows, image_processor, arguments)
    evaluated = evaluation_images(data.rows("eval"), image_processor)
    if evaluated is None:
        stop_evaluation(arguments)
    accelerator = make_accelerator(arguments)
    model.to(accelerator.device)
    run = RunFolder(accelerator, arguments, image_processor)
    pinned, workers = accelerator.device.type == "cuda", arguments.dataloader_num_workers
    collate = TextDetectionCollator(model.config)
    loader = partial(DataLoader, collate_fn=collate, num_workers=workers, pin_memory=pinned)
    evaluate = None
    if evaluated is not None:
        batches = accelerator.prepare(loader(evaluated, arguments.per_device_eval_batch_size))
        evaluate = partial(score_photos, model, image_processor, batches, accelerator)
    if accelerator.is_main_process:
        print(describe_run(model, arguments, patches, evaluated, recipe_file(), detector.model_name_or_path))
    if arguments.do_train:
        save = partial(save_model, accelerator, model, image_processor, run.path)
        train(accelerator, model, loader(patches, arguments.per_device_train_batch_size), evaluate, save, run)
        save()
    if arguments.do_eval and evaluate is not None:
        run.log(arguments.max_steps if arguments.do_train else 0, evaluate())
    if arguments.do_train and accelerator.is_main_process:
        if detector.fuse and model.config.prompting == "fasttcm":
            save_fused(arguments.output_dir)
        print(f"saved in {arguments.output_dir}")
    accelerator.end_training()


def prepare(detector: ModelArguments, data: DataArguments) -> tuple[Any, TCMForOrientedObjectDetection, Any]:
    """Rows to train on, the model for their classes, and its image processor."""
    rows = data.rows("train")
    if rows is None:
        raise ValueError("nothing to train on: give --train_images and --train_annotations, or --yolo")
    model, image_processor = detector.load(names_of(rows))
    model.to(memory_format=torch.channels_last)
    if model.config.clip_pretrained:
        freeze_text_encoder(model)
    return rows, model, image_processor


def make_accelerator(arguments: TCMTrainingArguments) -> Accelerator:
    """Devices, precision and accumulation of a training."""
    return Accelerator(
        mixed_precision=arguments.mixed_precision,
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        cpu=arguments.use_cpu,
        # Some heads leave parts of the pyramid without gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def train(
    accelerator: Accelerator,
    model: TCMForOrientedObjectDetection,
    loader: DataLoader[Any],
    evaluate: Callable[[], dict[str, float]] | None,
    save: Callable[[], None],
    run: RunFolder,
) -> None:
    """All optimizer steps that are left; the model ends with its averaged weights, those of the end or the best."""
    arguments = run.arguments
    optimizer = create_optimizer(model, arguments)
    scheduler = create_scheduler(optimizer, arguments)
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    ema = ExponentialMovingAverage(model, arguments.ema_decay)
    run.include(model, scheduler, ema)
    step, losses, throughput, stop = run.resume(), [], Throughput(), StopRequest()
    hidden = arguments.disable_tqdm or not accelerator.is_main_process
    bar = tqdm(total=arguments.max_steps, initial=step, disable=hidden)
    limit = TimeLimit(arguments.max_seconds, arguments.max_steps)
    with stop.listening():
        limit.start(scheduler)
        for batch in accelerator.skip_first_batches(loader, step * arguments.gradient_accumulation_steps):
            losses.append(learn(accelerator, wrapped, optimizer, batch, arguments.max_grad_norm))
            if not accelerator.sync_gradients:
                continue  # the step takes more batches
            step += 1
            scheduler.step()
            time_is_up = limit.follow(scheduler, accelerator)
            ema.update(model)
            bar.update()
            throughput.step(arguments.step_size)
            if run.is_due("logging", step):
                figures = {"learning_rate": scheduler.get_last_lr()[-1], "images_per_second": throughput.take()}
                run.log(step, {"loss": mean_loss(accelerator, losses), **figures})
                losses.clear()
            if run.is_due("eval", step) and evaluate is not None:
                with ema.applied(model, synchronize=True):
                    run.log_evaluation(step, evaluate(), save_best=save)
            run.end_step(step, stop)
            if time_is_up or step == arguments.max_steps:  # a stream does not end
                break
            throughput.start()
    if not run.load_best(model):
        ema.copy_to(model, synchronize=True)


def learn(
    accelerator: Accelerator, model: torch.nn.Module, optimizer: Any, batch: dict[str, Any], max_norm: float
) -> torch.Tensor:
    """Follow the gradient of a batch, at once or when the step has all of its batches, and return the loss, ()."""
    model.train()
    with accelerator.accumulate(model):
        loss = model(**batch).loss
        accelerator.backward(loss)
        if accelerator.sync_gradients and max_norm:
            accelerator.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach()


def mean_loss(accelerator: Accelerator, losses: list[torch.Tensor]) -> float:
    """Over the batches of all processes."""
    mean: float = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
    return mean


def save_model(
    accelerator: Accelerator, model: TCMForOrientedObjectDetection, image_processor: Any, folder: Path
) -> None:
    """Write weights, configuration and image processor, from one process."""
    if accelerator.is_main_process:
        model.save_pretrained(folder)
        image_processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
