"""Training on the Trainer of transformers."""

from .ema import ExponentialMovingAverage
from .parameter_groups import freeze_text_encoder, parameter_groups
from .trainer import TCMTrainer, TCMTrainingArguments

__all__ = ["ExponentialMovingAverage", "TCMTrainer", "TCMTrainingArguments", "freeze_text_encoder", "parameter_groups"]
