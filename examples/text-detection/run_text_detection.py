"""Train a TCM text detector with the Trainer of transformers.

Arguments come from the command line or from one YAML or JSON file, which further arguments override:

    python run_text_detection.py recipes/fasttcm_dbnet_tiny.yaml --train_images photos --train_annotations labels ...
"""

import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from transformers import HfArgumentParser, set_seed

from transformers_tcm import (
    AutoModelForTextDetection,
    TCMConfig,
    TCMForTextDetection,
    TCMImageProcessor,
    bundled_model_path,
)
from transformers_tcm.data.augmentation import TextAugmentation
from transformers_tcm.data.datasets import DecodedRows, RandomTextCrops, TextPhotos
from transformers_tcm.data.loaders import load_icdar2015, load_jsonl
from transformers_tcm.training import TCMTrainer, TCMTrainingArguments

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


@dataclass
class DataTrainingArguments:
    """Which photos to train and evaluate on. Sources are JSON-lines files, or folders in the ICDAR-2015 format."""

    train_images: list[str] = field(default_factory=list, metadata={"help": "Folders of photos, ICDAR-2015 format."})
    train_annotations: list[str] = field(
        default_factory=list, metadata={"help": "A folder of gt_*.txt for each of them."}
    )
    train_jsonl: list[str] = field(default_factory=list, metadata={"help": "JSON-lines files, after the folders."})
    train_weights: list[float] = field(
        default_factory=list, metadata={"help": "Share of the crops from each source, in that order. Default: equal."}
    )
    eval_images: str | None = field(default=None, metadata={"help": "Folder of photos to evaluate on."})
    eval_annotations: str | None = field(default=None, metadata={"help": "Their folder of gt_*.txt."})
    eval_jsonl: str | None = field(default=None, metadata={"help": "Or a JSON-lines file."})
    eval_list: str | None = field(
        default=None,
        metadata={
            "help": "Text file of photos: only these are evaluated, and they are left out of the same training folder."
        },
    )
    crop_size: int = field(default=320, metadata={"help": "Side of the square crops, in pixels."})
    min_scale: float = field(default=0.5, metadata={"help": "Smallest enlargement of a photo."})
    max_scale: float = field(default=3.0, metadata={"help": "Largest enlargement of a photo."})
    word_height_range: list[float] | None = field(
        default=None, metadata={"help": "Draw the scale such that a word's height falls in this range of pixels."}
    )
    rotation: float = field(default=10.0, metadata={"help": "Largest rotation in degrees."})
    flip_probability: float = field(default=0.5, metadata={"help": "Share of mirrored crops."})
    text_crop_probability: float = field(default=0.9, metadata={"help": "Share of crops placed around a legible word."})
    decode_once: bool = field(
        default=True, metadata={"help": "Keep the decoded photos of folders in memory (JSON-lines photos never)."}
    )


def parse_arguments() -> tuple[ModelArguments, DataTrainingArguments, TCMTrainingArguments]:
    """Arguments from a recipe file, then from the command line."""
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TCMTrainingArguments))
    arguments = sys.argv[1:]
    if not arguments or not arguments[0].endswith((".yaml", ".yml", ".json")):
        return parser.parse_args_into_dataclasses(arguments)
    recipe, *overrides = arguments
    settings = read_recipe(Path(recipe))
    given = {override[2:].split("=")[0].replace("-", "_") for override in overrides if override.startswith("--")}
    from_recipe = []
    for name, value in settings.items():
        if name not in given:
            values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
            from_recipe += [f"--{name}", *map(str, values)]
    return parser.parse_args_into_dataclasses(from_recipe + overrides)


def read_recipe(path: Path) -> dict:
    """Settings of a YAML or JSON file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    import yaml

    return yaml.safe_load(text)


def training_sources(arguments: DataTrainingArguments) -> list:
    """Rows of each training source; photos that are evaluated on are left out."""
    if len(arguments.train_images) != len(arguments.train_annotations):
        raise ValueError("give one --train_annotations folder for each --train_images folder")
    sources = []
    for images, annotations in zip(arguments.train_images, arguments.train_annotations, strict=True):
        held_out = arguments.eval_list if images == arguments.eval_images else None
        rows = load_icdar2015(images, annotations, exclude=held_out)
        sources.append(DecodedRows(rows) if arguments.decode_once else rows)
    sources += [load_jsonl(path) for path in arguments.train_jsonl]
    if not sources:
        raise ValueError("nothing to train on: give --train_images and --train_annotations, or --train_jsonl")
    return sources


def evaluation_rows(arguments: DataTrainingArguments):
    """Rows to evaluate on, `None` where none are named."""
    if arguments.eval_jsonl:
        return load_jsonl(arguments.eval_jsonl)
    if arguments.eval_images and arguments.eval_annotations:
        return load_icdar2015(arguments.eval_images, arguments.eval_annotations, include=arguments.eval_list)
    return None


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
    model_arguments, data_arguments, training_arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if training_arguments.should_log:
        transformers.utils.logging.set_verbosity_info()
    set_seed(training_arguments.seed)
    model, image_processor = load_model(model_arguments)
    model.to(memory_format=torch.channels_last)
    sources = training_sources(data_arguments)
    logger.info("training photos: %s", [len(rows) for rows in sources])
    word_heights = data_arguments.word_height_range
    augmentation = TextAugmentation(
        crop_size=(data_arguments.crop_size, data_arguments.crop_size),
        scale_range=(data_arguments.min_scale, data_arguments.max_scale),
        word_height_range=tuple(word_heights) if word_heights else None,
        rotation=data_arguments.rotation,
        flip_probability=data_arguments.flip_probability,
        text_crop_probability=data_arguments.text_crop_probability,
    )
    if training_arguments.max_steps <= 0:
        raise ValueError("crops are drawn without end: give --max_steps, the number of optimizer steps")
    crops = RandomTextCrops(
        sources,
        data_arguments.train_weights or [1.0] * len(sources),
        augmentation,
        image_processor,
        length=training_arguments.max_steps
        * training_arguments.train_batch_size
        * training_arguments.gradient_accumulation_steps
        * training_arguments.world_size,
        seed=training_arguments.seed,
    )
    rows = evaluation_rows(data_arguments)
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
