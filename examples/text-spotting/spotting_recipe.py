"""What `run_text_spotting.py` and `run_text_spotting_no_trainer.py` share: the model and the data of one recipe."""

import json
from dataclasses import dataclass, field
from typing import Any

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor, bundled_model_path
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.data.words import MixedDataset, WordCollages, WordPhotos, load_word_crops
from transformers_tcm.training import PhotoArguments, freeze_detector


@dataclass
class SpotterArguments:
    """Which model to train, and what of it."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Detector or spotter to start from: a folder, a name on the Hub, or a bundled model such as "
            '"fasttcm-dbnet-tiny". Default: a new model.'
        },
    )
    preset: str = field(default="tiny", metadata={"help": "Size of a new model: tiny, small or base."})
    config_overrides: str = field(
        default='{"recognizer": {}}',
        metadata={"help": 'JSON of configuration settings, such as {"recognizer": {"decoder": "attention"}}.'},
    )
    processor_overrides: str = field(default="{}", metadata={"help": "JSON of image processor settings."})
    train_detection: bool = field(
        default=True, metadata={"help": "Train detection and recognition together; otherwise the recogniser alone."}
    )
    freeze_detector: bool = field(default=False, metadata={"help": "Keep everything but the recogniser as it is."})
    fuse: bool = field(default=True, metadata={"help": "Save the final FastTCM model without its text tower."})

    def load(self) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
        """The model and its image processor."""
        overrides, processing = json.loads(self.config_overrides), json.loads(self.processor_overrides)
        if self.model_name_or_path is None:
            model = TCMForTextSpotting(TCMConfig.from_preset(self.preset, **overrides))
            image_processor = TCMImageProcessor(**{"text_threshold": 0.0, **processing})
        else:
            name = self.model_name_or_path
            name = bundled_model_path(name) if name.startswith("fasttcm-") else name
            model = TCMForTextSpotting.from_pretrained(name, dtype="float32", **overrides)
            image_processor = TCMImageProcessor.from_pretrained(name, **{"text_threshold": 0.0, **processing})
        if self.freeze_detector:
            freeze_detector(model)
        return model, image_processor


@dataclass
class WordArguments:
    """Which words to train and evaluate the recogniser on, besides those of the photos."""

    train_words: str | None = field(default=None, metadata={"help": "List of word crops, `file<tab>word` in a line."})
    word_weight: float = field(default=0.5, metadata={"help": "Share of collages of word crops among all items."})
    eval_words: str | None = field(
        default=None, metadata={"help": "List of word crops to evaluate on, where the recogniser is trained alone."}
    )
    canvas_words: int = field(default=24, metadata={"help": "Most words on one collage."})


def training_data(photos: PhotoArguments, words: WordArguments, image_processor: Any, length: int, seed: int) -> Any:
    """Crops of photos, mixed with collages of word crops where there are any."""
    crops = photos.training_crops(image_processor, length, seed)
    if words.train_words is None:
        return crops
    collages = WordCollages(
        load_word_crops(words.train_words),
        image_processor,
        length,
        seed,
        canvas_size=(photos.crop_size, photos.crop_size),
        max_words=words.canvas_words,
    )
    return MixedDataset([crops, collages], [1 - words.word_weight, words.word_weight], length, seed)


def evaluation_data(
    spotter: SpotterArguments, photos: PhotoArguments, words: WordArguments, image_processor: Any
) -> Any:
    """Photos to be spotted, or word crops to be read; `None` where none are named."""
    if not spotter.train_detection:
        return WordPhotos(load_word_crops(words.eval_words), image_processor) if words.eval_words else None
    rows = photos.evaluation_rows()
    return None if rows is None else TextPhotos(rows, image_processor)


def collator(spotter: SpotterArguments, model: TCMForTextSpotting) -> TextDetectionCollator:
    """Of training and evaluation."""
    return TextDetectionCollator(model.config, train_detection=spotter.train_detection)


def check(spotter: SpotterArguments, words: WordArguments) -> None:
    """ValueError for collages in joint training: their words stand on nothing, which a detector must not learn."""
    if spotter.train_detection and words.train_words:
        raise ValueError(
            "--train_words are crops without surroundings, for the recogniser alone: add --train_detection false, or "
            "leave them out"
        )


def save_fused(folder: str) -> None:
    """Replace the saved model by its fused form, which needs no text tower."""
    TCMForTextSpotting.from_pretrained(folder).fuse_text_embeddings().save_pretrained(folder)
