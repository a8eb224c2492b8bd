"""Training on the Trainer of transformers."""

from .ema import ExponentialMovingAverage
from .parameter_groups import freeze_detector, freeze_text_encoder, parameter_groups
from .recipes import PhotoArguments, few_shot_subset, parse_recipe
from .scoring import BatchScores, score_batch, summarize
from .trainer import TCMTrainer, TCMTrainingArguments

__all__ = [
    "BatchScores",
    "ExponentialMovingAverage",
    "PhotoArguments",
    "TCMTrainer",
    "TCMTrainingArguments",
    "few_shot_subset",
    "freeze_detector",
    "freeze_text_encoder",
    "parameter_groups",
    "parse_recipe",
    "score_batch",
    "summarize",
]
