"""What `run_oriented_detection.py` and `run_oriented_detection_no_trainer.py` share: model, data and schedule of a
recipe."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers_tcm import (
    TCMConfig,
    TCMForOrientedObjectDetection,
    TCMImageProcessor,
)
from transformers_tcm.conversion.clip import load_clip
from transformers_tcm.data.object_datasets import AerialPatches, OrientedImages
from transformers_tcm.data.objects import class_names
from transformers_tcm.data.readers import load_dota, load_yolo_obb
from transformers_tcm.dota import DOTA_V1_CLASSES
from transformers_tcm.training import StartArguments, TCMTrainingArguments


@dataclass
class ModelArguments(StartArguments):
    """Which model to train."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to start from, such as CLIP's weights after `transformers-tcm convert`; a head of "
            "another kind, or for other classes, starts anew. Default: a new model."
        },
    )
    preset: str = field(default="tiny", metadata={"help": "Size of a new model: tiny, small or base."})
    head_type: str = field(
        default="rotated_fcos", metadata={"help": "rotated_fcos, rotated_atss or rotated_retinanet."}
    )
    prompting: str | None = field(
        default=None,
        metadata={"help": "fasttcm, tcm or none. Default: that of the checkpoint, or fasttcm."},
    )
    fuse: bool = field(default=True, metadata={"help": "Save the final FastTCM model without its text tower."})

    def load(self, names: list[str]) -> tuple[TCMForOrientedObjectDetection, TCMImageProcessor]:
        """The model for classes of these names, and its image processor."""
        labels = dict(enumerate(names))
        given, overrides = self.config_settings(), self.processor_settings()
        if self.prompting is not None:
            given = {"prompting": self.prompting, **given}
        if self.starts_anew(self.model_name_or_path):
            settings = {"id2label": labels, **given}
            return self.named_model(TCMForOrientedObjectDetection, settings, overrides, load_clip)
        if self.model_name_or_path is None:
            config = TCMConfig.from_preset(self.preset, id2label=labels, **{"head_type": self.head_type, **given})
            model = TCMForOrientedObjectDetection(config)
        else:
            model = TCMForOrientedObjectDetection.from_pretrained(
                self.model_name_or_path,
                dtype="float32",
                ignore_mismatched_sizes=True,
                **{"head_type": self.head_type, "id2label": labels, **given},
            )
        return model, TCMImageProcessor(**overrides).for_model(model.config)


@dataclass
class DataArguments:
    """What to train on, in the form of DOTA or of YOLO-OBB."""

    train_images: str | None = field(default=None, metadata={"help": "Folder of patches, as of split-dota."})
    train_annotations: str | None = field(default=None, metadata={"help": "Folder of their labels."})
    eval_images: str | None = field(default=None, metadata={"help": "Folder of patches to evaluate on."})
    eval_annotations: str | None = field(default=None, metadata={"help": "Folder of their labels."})
    yolo: str | None = field(default=None, metadata={"help": "Or a YAML file of YOLO-OBB, with train and val."})
    classes: list[str] = field(
        default_factory=lambda: list(DOTA_V1_CLASSES), metadata={"help": "Classes of the labels. Default: DOTA-v1.0."}
    )
    label_share: float = field(default=1.0, metadata={"help": "Share of the patches to train on, the first ones."})
    epochs: float | None = field(default=None, metadata={"help": "In place of --max_steps."})
    flip_probability: float = field(default=0.75, metadata={"help": "Share of flipped patches."})
    turn_probability: float = field(default=0.0, metadata={"help": "Share of patches turned by right angles."})
    use_difficult: bool = field(default=True, metadata={"help": "Learn difficult and cut off objects as all others."})
    decay_share: float = field(
        default=0.25, metadata={"help": "Last part of the training, in which the rate falls to a tenth."}
    )

    def rows(self, split: str) -> Any:
        """Annotated patches of "train" or "eval"; `None` where there are none."""
        if self.yolo is not None:
            return load_yolo_obb(self.yolo, {"eval": "val"}.get(split, split))
        images, annotations = getattr(self, f"{split}_images"), getattr(self, f"{split}_annotations")
        if images is None:
            return None
        if annotations is None:
            raise ValueError(f"--{split}_images needs --{split}_annotations, the folder of their labels")
        # Patches without objects teach nothing that the background of the others does not.
        return load_dota(images, annotations, self.classes, with_empty=split == "eval")

    def training_patches(
        self, rows: Any, processor: TCMImageProcessor, arguments: TCMTrainingArguments
    ) -> AerialPatches:
        """The training set for all steps; also sets their number and when the rate falls."""
        rows = rows.select(range(max(1, round(len(rows) * self.label_share))))
        if self.epochs is not None:
            arguments.max_steps = max(1, round(self.epochs * len(rows) / arguments.step_size))
        steps = arguments.max_steps
        if arguments.lr_scheduler_type == "warmup_stable_decay":
            decay = round(steps * self.decay_share)
            arguments.lr_scheduler_kwargs = {
                "num_decay_steps": decay,
                "num_stable_steps": steps - decay - arguments.get_warmup_steps(steps),
                "min_lr_ratio": 0.1,
                **(arguments.lr_scheduler_kwargs or {}),
            }
        options = (self.flip_probability, self.turn_probability, self.use_difficult)
        return AerialPatches(rows, processor, arguments.num_items, arguments.seed, *options)


def names_of(rows: Any) -> list[str]:
    """The classes that annotated patches know."""
    return class_names(rows)


def evaluation_images(rows: Any, processor: TCMImageProcessor) -> OrientedImages | None:
    """The evaluation set, if there is one."""
    return None if rows is None else OrientedImages(rows, processor)


def save_fused(folder: str | Path) -> TCMForOrientedObjectDetection:
    """Replace the saved model by its fused form, which needs no text tower, and return that."""
    model = TCMForOrientedObjectDetection.from_pretrained(folder).fuse_text_embeddings()
    model.save_pretrained(folder)
    return model
