"""What `run_text_spotting.py` and `run_text_spotting_no_trainer.py` share: the model and the data of one recipe."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor
from transformers_tcm.conversion.clip import load_clip
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import TextPhotos
from transformers_tcm.data.word_crops import MixedDataset, WordCollages, WordPhotos, load_word_crops
from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.training import (
    PhotoArguments,
    StartArguments,
    freeze_all_but,
    freeze_detector,
    json_settings,
    photometric_jitter,
    unreadable_words,
    words_of_rows,
)

logger = logging.getLogger(__name__)

# Of `WordCollages`, that --collage_settings may give.
COLLAGE_SETTINGS = ("warp", "stretch", "word_heights", "enlargement")


@dataclass
class SpotterArguments(StartArguments):
    """Which model to train, and what of it."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Detector or spotter to start from: a folder, a name on the Hub, or a bundled model such as "
            '"fasttcm-dbnet-tiny". Default: a new model.'
        },
    )
    preset: str = field(default="tiny", metadata={"help": "Size of a new model: tiny, small or base."})
    train_detection: bool = field(
        default=True, metadata={"help": "Train detection and recognition together; otherwise the recogniser alone."}
    )
    freeze_detector: bool = field(default=False, metadata={"help": "Keep everything but the recogniser as it is."})
    train_only: list[str] = field(
        default_factory=list,
        metadata={"help": "Train these parts alone, such as recognizer.boundaries. Default: everything."},
    )
    fuse: bool = field(default=True, metadata={"help": "Save the final FastTCM model without its text tower."})

    def load(self) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
        """The model and its image processor."""
        overrides, processing = self.config_settings(), self.processor_settings()
        name = self.model_name_or_path
        if self.starts_anew(name):
            return self._prepared(*self.named_model(TCMForTextSpotting, overrides, processing, load_clip))
        start = TCMConfig() if name is None else TCMConfig.from_pretrained(name)
        reads = head_class(overrides.get("head_type", start.head_type)).reads
        overrides = {"recognizer": None if reads else {}, **overrides}
        if name is None:
            model = TCMForTextSpotting(TCMConfig.from_preset(self.preset, **overrides))
            image_processor = TCMImageProcessor(**processing)
        else:
            # Layers of another shape by other settings, such as the one on C5 without prompting, start anew.
            model = TCMForTextSpotting.from_pretrained(name, dtype="float32", ignore_mismatched_sizes=True, **overrides)
            image_processor = TCMImageProcessor.from_pretrained(name, **processing)
        return self._prepared(model, image_processor.for_model(model.config))

    def _prepared(
        self, model: TCMForTextSpotting, image_processor: TCMImageProcessor
    ) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
        """Both, ready to be trained."""
        if image_processor.text_threshold is None:
            image_processor.text_threshold = 0.0  # that of a detector
        if self.freeze_detector:
            if model.recognizer is None:
                raise ValueError("--freeze_detector leaves nothing to train of a head that reads what it finds")
            freeze_detector(model)
        if self.train_only:
            freeze_all_but(model, self.train_only)
        return model, image_processor


@dataclass
class SpottingPhotoArguments(PhotoArguments):
    """`PhotoArguments` for photos that are read: nothing is mirrored."""

    flip_probability: float = field(default=0.0, metadata={"help": "Has to be 0: mirrored words cannot be read."})


@dataclass
class WordArguments:
    """Which words to train and evaluate the recogniser on, besides those of the photos."""

    train_words: list[str] = field(
        default_factory=list, metadata={"help": "Lists of word crops, see `load_word_crops`."}
    )
    train_words_weights: list[float] = field(
        default_factory=list, metadata={"help": "Share of the collages from each list, in that order. Default: equal."}
    )
    word_photometric: str | None = field(
        default=None,
        metadata={
            "help": 'JSON of a `PhotometricJitter` for each word of a collage, such as {"invert_probability": 0.3}. '
            "Default: none."
        },
    )
    word_weight: float = field(default=0.5, metadata={"help": "Share of collages of word crops among all items."})
    eval_words: str | None = field(
        default=None, metadata={"help": "List of word crops to evaluate on, where the recogniser is trained alone."}
    )
    canvas_words: int = field(default=24, metadata={"help": "Most words on one collage."})
    collage_settings: str | None = field(
        default=None,
        metadata={
            "help": "JSON of how `WordCollages` distorts words: warp, stretch, word_heights and enlargement, such as "
            '{"warp": 0.2, "enlargement": [1.0, 3.0]}.'
        },
    )


def training_data(photos: PhotoArguments, words: WordArguments, image_processor: Any, length: int, seed: int) -> Any:
    """Crops of photos, collages of word crops, or a mixture of both."""
    if not words.train_words:
        return photos.training_crops(image_processor, length, seed)
    collages = word_collages(photos, words, image_processor, length, seed)
    if not photos.has_photos:
        return collages
    if photos.streaming:
        raise ValueError("streamed photos cannot be mixed with word crops: leave out --streaming or --train_words")
    crops = photos.training_crops(image_processor, length, seed)
    return MixedDataset([crops, collages], [1 - words.word_weight, words.word_weight], length, seed)


def training_words(data: Any) -> Iterator[str]:
    """The words of all photos and lists of a training set that are to be read."""
    if isinstance(data, MixedDataset):
        for part in data.datasets:
            yield from training_words(part)
    elif isinstance(data, WordCollages):
        yield from (word.text for word in data.words)
    else:
        for rows in data.sources:
            yield from words_of_rows(rows)


def report_unreadable_words(data: Any, model: TCMForTextSpotting) -> None:
    """Log how many words hold characters that the recogniser has no class for, before it is trained on them."""
    if data is not None:
        settings = model.config.reading_settings
        words = training_words(data)
        if getattr(settings, "folds_case", False):
            words = map(str.lower, words)
        report = unreadable_words(words, settings.charset)
        if report is not None:
            logger.warning("%s", report)


def word_collages(
    photos: PhotoArguments, words: WordArguments, image_processor: Any, length: int, seed: int
) -> MixedDataset:
    """Square collages of the size of the crops, each of words from one of the lists."""
    jitter = None if words.word_photometric is None else photometric_jitter("word_photometric", words.word_photometric)
    distortion = json_settings("collage_settings", words.collage_settings, COLLAGE_SETTINGS)
    collages = [
        WordCollages(
            load_word_crops(path),
            image_processor,
            length,
            seed,
            canvas_size=(photos.crop_size, photos.crop_size),
            max_words=words.canvas_words,
            word_photometric=jitter,
            cache=photos.picture_cache,
            **distortion,
        )
        for path in words.train_words
    ]
    return MixedDataset(collages, words.train_words_weights or [1.0] * len(collages), length, seed + 1)


def evaluation_data(
    spotter: SpotterArguments, photos: PhotoArguments, words: WordArguments, image_processor: Any
) -> Any:
    """Photos to be spotted, for a recogniser alone word crops or the words of photos; `None` where none are named."""
    if words.eval_words and not spotter.train_detection:
        return WordPhotos(load_word_crops(words.eval_words), image_processor)
    rows = photos.evaluation_rows()
    return None if rows is None else TextPhotos(rows, image_processor)


def collator(spotter: SpotterArguments, model: TCMForTextSpotting) -> TextDetectionCollator:
    """Of training and evaluation."""
    return TextDetectionCollator(model.config, train_detection=spotter.train_detection)


def check(spotter: SpotterArguments, photos: PhotoArguments, words: WordArguments) -> None:
    """ValueError for arguments that contradict each other.

    Word crops stand on nothing, which a detector must not learn.
    """
    if spotter.train_detection and words.train_words and not photos.has_photos:
        raise ValueError(
            "--train_words are crops without surroundings, for the recogniser alone: add --train_detection false, or "
            "photos to train the detection on"
        )
    if not 0 <= words.word_weight <= 1:
        raise ValueError(f"--word_weight is a share of the items, between 0 and 1; got {words.word_weight}")
    if photos.flip_probability:
        raise ValueError("--flip_probability has to be 0: mirrored words cannot be read")


def save_fused(folder: str) -> TCMForTextSpotting:
    """Replace the saved model by its fused form, which needs no text tower, and return that."""
    model = TCMForTextSpotting.from_pretrained(folder).fuse_text_embeddings()
    model.save_pretrained(folder)
    return model
