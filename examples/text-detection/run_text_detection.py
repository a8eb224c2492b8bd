"""Train a TCM text detector with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_text_detection.py recipes/fasttcm_dbnet_tiny.yaml --train_images photos --train_annotations labels ...
"""

import json
import logging
from dataclasses import dataclass, field

import torch
import transformers
from transformers import set_seed

from transformers_tcm import (
    AutoModelForTextDetection,
    TCMConfig,
    TCMForTextDetection,
    TCMImageProcessor,
    bundled_model_path,
)
from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.training import PhotoArguments, TCMTrainer, TCMTrainingArguments, parse_recipe

logger = logging.getLogger(__name__)


@dataclass
class ModelArguments:
    """Which model to train."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": 'Checkpoint to start from: a folder, a name on the Hub, or "bundled". Default: a new model.'},
    )
    preset: str = field(default="tiny", metadata={"help": "Size of a new model: tiny, small or base."})
    config_overrides: str = field(
        default="{}", metadata={"help": 'JSON of configuration settings of a new model, such as {"variant": "tcm"}.'}
    )
    processor_overrides: str = field(
        default="{}",
        metadata={
            "help": 'JSON of image processor settings, such as {"box_threshold": 0.5, "size": {"longest_edge": 1280}}.'
        },
    )
    fuse: bool = field(default=True, metadata={"help": "Save the final FastTCM model without its text tower."})


def load_model(arguments: ModelArguments) -> tuple[TCMForTextDetection, TCMImageProcessor]:
    """A new model of a preset, or a checkpoint, and its image processor."""
    overrides = json.loads(arguments.processor_overrides)
    if arguments.model_name_or_path is None:
        config = TCMConfig.from_preset(arguments.preset, **json.loads(arguments.config_overrides))
        return TCMForTextDetection(config), TCMImageProcessor(**overrides)
    name = bundled_model_path() if arguments.model_name_or_path == "bundled" else arguments.model_name_or_path
    model = AutoModelForTextDetection.from_pretrained(name, dtype="float32")
    return model, TCMImageProcessor.from_pretrained(name, **overrides)


def main() -> None:
    model_arguments, photos, training_arguments = parse_recipe(ModelArguments, PhotoArguments, TCMTrainingArguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if training_arguments.should_log:
        transformers.utils.logging.set_verbosity_info()
    set_seed(training_arguments.seed)
    model, image_processor = load_model(model_arguments)
    model.to(memory_format=torch.channels_last)
    crops = photos.training_crops(image_processor, training_arguments.num_items, training_arguments.seed)
    logger.info("training photos: %s", [len(rows) for rows in crops.sources])
    rows = photos.evaluation_rows()
    trainer = TCMTrainer(
        model=model,
        args=training_arguments,
        train_dataset=crops,
        eval_dataset=None if rows is None else TextPhotos(rows, image_processor),
        image_processor=image_processor,
    )
    if training_arguments.do_train:
        result = trainer.train(resume_from_checkpoint=training_arguments.resume_from_checkpoint)
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if training_arguments.do_eval and rows is not None:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if training_arguments.do_train:
        trainer.save_model()
        if model_arguments.fuse and model.config.variant == "fasttcm" and trainer.is_world_process_zero():
            save_fused(training_arguments.output_dir)


def save_fused(folder: str) -> None:
    """Replace the saved model by its fused form, which needs no text tower."""
    model = TCMForTextDetection.from_pretrained(folder)
    model.fuse_text_embeddings().save_pretrained(folder)


if __name__ == "__main__":
    main()
