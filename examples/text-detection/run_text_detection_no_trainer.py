"""Train a TCM text detector with a plain loop on Accelerate, by the recipes of `run_text_detection.py`.

    accelerate launch run_text_detection_no_trainer.py recipes/finetune.yaml --train_images photos ...

Arguments are the same; the loop heeds those of the `TrainingArguments` that it names. Read it, and change it.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from detection_recipe import ModelArguments, save_fused
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import set_seed

from transformers_tcm import TCMForTextDetection
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.training import (
    ExponentialMovingAverage,
    PhotoArguments,
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
    prepare_training_loader,
    recipe_file,
    score_photos,
    stop_evaluation,
)


def main() -> None:
    detector, photos, arguments = parse_recipe(ModelArguments, PhotoArguments, TCMTrainingArguments)
    logging.basicConfig(format="%(message)s")
    set_seed(arguments.seed)
    model, image_processor = detector.load()
    model.to(memory_format=torch.channels_last)
    if model.config.clip_pretrained:
        freeze_text_encoder(model)
    collate = TextDetectionCollator(model.config)
    data, crops, rows = None, None, photos.evaluation_rows()
    if arguments.do_train:
        # Crop i depends on the seed and on i alone: there is nothing to shuffle.
        crops = photos.training_crops(image_processor, arguments.num_items, arguments.seed)
    if rows is None:
        stop_evaluation(arguments)
    else:
        data = TextPhotos(rows, image_processor)
    accelerator = make_accelerator(arguments)
    model.to(accelerator.device)
    run = RunFolder(accelerator, arguments, image_processor)
    pinned, workers = accelerator.device.type == "cuda", arguments.dataloader_num_workers
    loader = partial(DataLoader, collate_fn=collate, num_workers=workers, pin_memory=pinned)
    evaluate = None
    if data is not None:
        batches = accelerator.prepare(loader(data, arguments.per_device_eval_batch_size))
        evaluate = partial(score_photos, model, image_processor, batches, accelerator)
    if accelerator.is_main_process:
        print(describe_run(model, arguments, crops, data, recipe_file(), detector.model_name_or_path))
    if crops is not None:
        train(accelerator, model, loader(crops, arguments.per_device_train_batch_size), evaluate, run)
        run.save_model(model)
    if arguments.do_eval and evaluate is not None:
        run.log(arguments.max_steps if crops is not None else 0, evaluate())
    if crops is not None and accelerator.is_main_process:
        if detector.fuse and model.config.prompting == "fasttcm":
            save_fused(arguments.output_dir)
        print(f"saved in {arguments.output_dir}")
    accelerator.end_training()


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
    model: TCMForTextDetection,
    loader: DataLoader[Any],
    evaluate: Callable[[], dict[str, float]] | None,
    run: RunFolder,
) -> None:
    """All optimizer steps that are left; the model ends with its averaged weights, those of the end or the best."""
    arguments = run.arguments
    optimizer = create_optimizer(model, arguments)
    scheduler = create_scheduler(optimizer, arguments)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    loader = prepare_training_loader(loader, accelerator)
    ema = ExponentialMovingAverage(model, arguments.ema_decay)
    run.include(model, scheduler, ema)
    step, losses, throughput, stop = run.resume(), [], Throughput(), StopRequest()
    bar = tqdm(total=arguments.max_steps, initial=step, disable=run.hides_progress)
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
                run.log(step, training_figures(accelerator, losses, scheduler, throughput))
            if run.is_due("eval", step) and evaluate is not None:
                with ema.applied(model, synchronize=True):
                    run.log_evaluation(step, evaluate(), model)
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


def training_figures(
    accelerator: Accelerator, losses: list[torch.Tensor], scheduler: Any, throughput: Throughput
) -> dict[str, float]:
    """Loss, rate and speed since the last log; takes the losses out of their list."""
    loss = accelerator.reduce(torch.stack(losses).mean(), "mean").item()  # of the batches of all processes
    losses.clear()
    rate, speed = scheduler.get_last_lr()[-1], round(throughput.take(), 3)
    return {"loss": loss, "learning_rate": rate, "images_per_second": speed}


if __name__ == "__main__":
    main()
