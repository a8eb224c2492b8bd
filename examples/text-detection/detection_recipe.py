"""What `run_text_detection.py` and `run_text_detection_no_trainer.py` share: the model of a recipe."""

from dataclasses import dataclass, field
from pathlib import Path

from transformers_tcm import (
    AutoModelForTextDetection,
    TCMConfig,
    TCMForTextDetection,
    TCMImageProcessor,
    bundled_model_path,
)
from transformers_tcm.conversion.clip import load_clip
from transformers_tcm.training import StartArguments, load_initial_weights


@dataclass
class ModelArguments(StartArguments):
    """Which model to train."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from: a folder, a name on the Hub, or a bundled model such as "
            '"fasttcm-dbnet-tiny", for which "bundled" stands too. Default: a new model.'
        },
    )
    preset: str = field(default="tiny", metadata={"help": "Size of a new model: tiny, small or base."})
    initial_weights: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint whose weights a new model starts with, as far as it has them: a folder, a name on the "
            'Hub, a bundled model, or "bundled".'
        },
    )
    negative_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Hard negatives for each pixel of text in the loss of a DBNet head. Default: as configured, 3 for "
            "a new model."
        },
    )
    fuse: bool = field(default=True, metadata={"help": "Save the final FastTCM model without its text tower."})

    def load(self) -> tuple[TCMForTextDetection, TCMImageProcessor]:
        """A new model of a preset, or a checkpoint, and its image processor."""
        settings, overrides = self.config_settings(), self.processor_settings()
        if self.starts_anew(self.model_name_or_path):
            model, image_processor = self.named_model(TCMForTextDetection, settings, overrides, load_clip)
            self._balanced(model.config)
            return model, image_processor
        if self.model_name_or_path is None:
            config = TCMConfig.from_preset(self.preset, **settings)
            model = TCMForTextDetection(self._balanced(config))
            if self.initial_weights is not None:
                load_initial_weights(model, self._path(self.initial_weights))
            return model, TCMImageProcessor(**overrides).for_model(model.config)
        if self.initial_weights is not None:
            raise ValueError("--initial_weights are for a new model, not for --model_name_or_path: give one of them")
        name = self._path(self.model_name_or_path)
        config = self._balanced(TCMConfig.from_pretrained(name, **settings))
        # Layers of another shape by other settings, such as the one on C5 without prompting, start anew.
        model = AutoModelForTextDetection.from_pretrained(
            name, config=config, dtype="float32", ignore_mismatched_sizes=True
        )
        return model, TCMImageProcessor.from_pretrained(name, **overrides).for_model(model.config)

    @staticmethod
    def _path(name: str) -> str | Path:
        return bundled_model_path() if name == "bundled" else name

    def _balanced(self, config: TCMConfig) -> TCMConfig:
        """The configuration with `negative_ratio`, if it is given."""
        if self.negative_ratio is None:
            return config
        if not hasattr(config.head_settings, "negative_ratio"):
            raise ValueError(f"--negative_ratio is for DBNet heads, not for a {config.head_type} head: leave it out")
        if self.negative_ratio <= 0:
            raise ValueError(f"--negative_ratio has to be positive, got {self.negative_ratio}")
        config.head_config = {**(config.head_config or {}), "negative_ratio": self.negative_ratio}
        return config


def save_fused(folder: str) -> TCMForTextDetection:
    """Replace the saved model by its fused form, which needs no text tower, and return that."""
    model = TCMForTextDetection.from_pretrained(folder).fuse_text_embeddings()
    model.save_pretrained(folder)
    return model
