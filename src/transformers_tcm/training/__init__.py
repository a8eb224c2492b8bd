"""Training on the Trainer of transformers and on Accelerate."""

from .ema import ExponentialMovingAverage
from .initial_weights import load_initial_weights
from .interruption import StopRequest, last_checkpoint
from .loading import prepare_training_loader
from .parameter_groups import freeze_all_but, freeze_detector, freeze_text_encoder, parameter_groups
from .recipe_files import json_settings, parse_recipe, recipe_file
from .recipes import (
    PhotoArguments,
    few_shot_subset,
    photometric_jitter,
    stop_evaluation,
    unreadable_words,
    words_of_rows,
)
from .run_folder import RunFolder
from .scoring import BatchScores, score_batch, score_photos, summarize
from .screen import describe_run
from .start import StartArguments
from .throughput import Throughput
from .time_limit import TimeLimit
from .trainer import TCMTrainer, TCMTrainingArguments, create_optimizer, create_scheduler

__all__ = [
    "BatchScores",
    "ExponentialMovingAverage",
    "PhotoArguments",
    "RunFolder",
    "StartArguments",
    "StopRequest",
    "TCMTrainer",
    "TCMTrainingArguments",
    "Throughput",
    "TimeLimit",
    "create_optimizer",
    "create_scheduler",
    "describe_run",
    "few_shot_subset",
    "freeze_all_but",
    "freeze_detector",
    "freeze_text_encoder",
    "json_settings",
    "last_checkpoint",
    "load_initial_weights",
    "parameter_groups",
    "parse_recipe",
    "photometric_jitter",
    "prepare_training_loader",
    "recipe_file",
    "score_batch",
    "score_photos",
    "stop_evaluation",
    "summarize",
    "unreadable_words",
    "words_of_rows",
]
