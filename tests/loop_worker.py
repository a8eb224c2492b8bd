"""Runs `TrainingLoop` on the photos of `training_fakes`: `torchrun loop_worker.py JSON`, a list of settings."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from training_fakes import Photos, detector, training_arguments

from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.training import TrainingLoop


def train(output_dir: str, distinct: int, eval_photos: int = 0, **settings: Any) -> TrainingLoop:
    """Three steps on photos of which so many differ, then an evaluation."""
    settings = {"max_steps": 3, "train_sampling_strategy": "sequential", "max_grad_norm": 1.0, **settings}
    arguments = training_arguments(Path(output_dir), do_eval=eval_photos > 0, **settings)
    model = detector(decoder_dropout=0.0)
    run = TrainingLoop(arguments, model, Photos.processor, TextDetectionCollator(model.config))
    run.train(Photos(arguments.num_items, distinct))
    if eval_photos:
        run.evaluate(run.loader(Photos(eval_photos), 1))
    return run


def main() -> None:
    torch.set_num_threads(1)
    for settings in json.loads(sys.argv[1]):
        run = train(**settings)
        assert run.accelerator.num_processes == 2
    run.accelerator.end_training()


if __name__ == "__main__":
    main()
