"""What the training scripts share: annotated photos to train on, and checks of what is in them."""

import inspect
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from transformers import IntervalStrategy, TrainingArguments

from ..data.augmentation import TextAugmentation
from ..data.copy_paste import CopyPaste, cut_words, patches_of_words
from ..data.datasets import DecodedRows, RandomTextCrops, StreamedTextCrops
from ..data.known_datasets import load_text_dataset
from ..data.loaders import load_icdar2015, load_jsonl, load_named_dataset, row_to_instances, with_random_access
from ..data.photometric import PhotometricJitter
from ..data.rendering.rows import RenderedRows
from ..data.word_crops import load_word_crops
from ..images import load_image
from .recipe_files import json_settings

__all__ = [
    "PhotoArguments",
    "few_shot_subset",
    "photometric_jitter",
    "stop_evaluation",
    "unreadable_words",
    "words_of_rows",
]

logger = logging.getLogger(__name__)


def stop_evaluation(arguments: TrainingArguments) -> None:
    """Take out of a recipe what needs data to evaluate on, where none is named; it is logged."""
    if arguments.eval_strategy != "no" or arguments.load_best_model_at_end:
        logger.warning("nothing is evaluated and the last model is kept: there are no data to evaluate on")
    arguments.do_eval = False
    arguments.eval_strategy = IntervalStrategy.NO
    arguments.load_best_model_at_end = False
    arguments.metric_for_best_model = None


def words_of_rows(rows: Any) -> Iterator[str]:
    """The words of annotated photos that count and are known, without decoding the photos."""
    if isinstance(rows, RenderedRows):
        return  # there is no end of them, in printable ASCII
    if hasattr(rows, "column_names"):
        texts, ignored = rows["texts"], rows["ignore"]
    else:
        texts, ignored = [row["texts"] for row in rows], [row["ignore"] for row in rows]
    for words, flags in zip(texts, ignored, strict=True):
        yield from (word for word, ignore in zip(words, flags, strict=True) if word and not ignore)


def unreadable_words(words: Iterable[str], charset: str) -> str | None:
    """How many words hold characters that are not in the charset, which ones and how often; `None` if none do.

    Accents are composed before, as in training.
    """
    known, counts, total, affected = set(charset), Counter[str](), 0, 0
    for word in words:
        outside = [character for character in unicodedata.normalize("NFC", word) if character not in known]
        counts.update(outside)
        total, affected = total + 1, affected + bool(outside)
    if not affected:
        return None
    most = ", ".join(f"{character!r} ({count})" for character, count in counts.most_common(20))
    more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
    return (
        f"{affected} of {total} words to train on hold characters that the recogniser cannot read, as they are outside "
        f"of its charset of {len(charset)} characters: {most}{more}. It learns to call them unknown and leaves them "
        'out; to read them, train a recogniser with another "charset"'
    )


def few_shot_subset(count: int, share: float, seed: int = 0) -> list[int]:
    """Indices of a share of `count` photos, in ascending order, at least one.

    The subset of a share contains those of all smaller shares of the same seed, so that more labels only add photos.

    Raises:
        ValueError: for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"--few_shot is a share of the training photos, above 0 and at most 1; got {share}")
    order = np.random.default_rng(seed).permutation(count)
    return sorted(order[: max(round(share * count), 1)].tolist())


def photometric_jitter(option: str, text: str | None) -> PhotometricJitter:
    """The `PhotometricJitter` that an option gives as JSON; ValueError for settings that it does not have."""
    return PhotometricJitter(**json_settings(option, text, [field.name for field in fields(PhotometricJitter)]))


def _not_empty(rows: Any, path: str) -> Any:
    if not len(rows):
        raise ValueError(f"{path} holds no photo; expected a line of JSON for each")
    return rows


@dataclass
class PhotoArguments:
    """Which photos to train and evaluate on. Sources are JSON-lines files, or folders in the ICDAR-2015 format."""

    train_images: list[str] = field(default_factory=list, metadata={"help": "Folders of photos, ICDAR-2015 format."})
    train_annotations: list[str] = field(
        default_factory=list, metadata={"help": "A folder of gt_*.txt for each of them."}
    )
    train_jsonl: list[str] = field(default_factory=list, metadata={"help": "JSON-lines files, after the folders."})
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Data set of the Hub, or folder for `datasets.load_dataset`, after the files; with the columns "
            "image, polygons, texts and ignore, or with objects in the manner of COCO."
        },
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    train_split: str = field(default="train", metadata={"help": "Its part to train on."})
    eval_split: str | None = field(default=None, metadata={"help": "Its part to evaluate on."})
    train_sets: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Public data sets of `transformers-tcm datasets`, after those, such as total-text or mlt2017:val; "
            "their part is train unless named."
        },
    )
    data_root: str | None = field(default=None, metadata={"help": "Folder with a subfolder for each of them."})
    streaming: bool = field(
        default=False, metadata={"help": "Read its photos as they are needed, as the only source, in another order."}
    )
    train_weights: list[float] = field(
        default_factory=list, metadata={"help": "Share of the crops from each source, in that order. Default: equal."}
    )
    few_shot: float = field(
        default=1.0,
        metadata={
            "help": "Share of the annotated photos to train on: of each folder, not of the JSON-lines files, unless "
            "--jsonl_photos is given. Smaller subsets are contained in larger ones."
        },
    )
    few_shot_seed: int = field(
        default=0,
        metadata={"help": "Draws that subset, whatever the seed of the training is: all stages see the same."},
    )
    jsonl_photos: bool = field(
        default=False,
        metadata={"help": "The JSON-lines files hold photos too, not rendered scenes, for few_shot and copy_paste."},
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
    base_edges: list[int] | None = field(
        default=None,
        metadata={"help": "Shorter and longest side of photos that are not enlarged, in pixels. Default: as they are."},
    )
    aspect_jitter: float = field(default=0.0, metadata={"help": "Largest change of the ratio of width to height."})
    photometric: str | None = field(
        default=None,
        metadata={"help": 'JSON of a `PhotometricJitter` for the crops, such as {"blur_probability": 0.0}.'},
    )
    rotation: float = field(default=10.0, metadata={"help": "Largest rotation in degrees."})
    turn_probability: float = field(default=0.0, metadata={"help": "Share of crops turned by 90, 180 or 270 degrees."})
    flip_probability: float = field(default=0.5, metadata={"help": "Share of mirrored crops."})
    text_crop_probability: float = field(default=0.9, metadata={"help": "Share of crops placed around a legible word."})
    copy_paste_probability: float = field(
        default=0.0, metadata={"help": "Share of crops that get words of other training photos on free places."}
    )
    copy_paste_max_words: int = field(default=4, metadata={"help": "Most words pasted into a crop."})
    copy_paste_heights: list[float] = field(
        default_factory=lambda: [12.0, 64.0], metadata={"help": "Range of their heights in pixels of the crop."}
    )
    train_rendered: str | None = field(
        default=None,
        metadata={
            "help": 'JSON of `RenderedRows`, such as {"backgrounds": "photos", "signs": 0.5}: scenes and signs that '
            "are rendered while the model is trained, as the last source."
        },
    )
    copy_paste_words: list[str] = field(
        default_factory=list, metadata={"help": "Lists of word crops to paste from too, see `load_word_crops`."}
    )
    decode_once: bool = field(
        default=True, metadata={"help": "Keep the decoded photos of folders in memory (JSON-lines photos never)."}
    )
    picture_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder to keep all decoded photos and word crops in, in place of the memory: the next run decodes "
            "nothing. It takes three bytes a pixel."
        },
    )

    def __post_init__(self) -> None:
        for name in ("word_height_range", "base_edges", "copy_paste_heights"):
            if (pair := getattr(self, name)) is not None and len(pair) != 2:
                raise ValueError(f"--{name} takes two numbers, got {pair}")
        few_shot_subset(1, self.few_shot)  # refuses what is no share
        if self.eval_list and not self.eval_images:
            raise ValueError(
                "--eval_list holds photos of the folder --eval_images; name it, also where nothing is evaluated, or "
                "they would be trained on"
            )

    @property
    def has_photos(self) -> bool:
        """Whether there are photos to train on, rendered ones included."""
        sources = (self.train_images, self.train_jsonl, self.dataset_name, self.train_sets, self.train_rendered)
        return any(map(bool, sources))

    def training_crops(self, image_processor: Any, length: int, seed: int) -> RandomTextCrops | StreamedTextCrops:
        """Augmented crops of the training photos; those that are evaluated on are left out.

        With `few_shot`, only a share of the photos is used, also to cut words from; each source still gives its share
        of the crops. Streamed crops have no `length`.

        Raises:
            ValueError: without photos, without a folder of annotations for each folder of photos, for a share of the
                photos outside (0, 1], where there is no word to paste, or for streamed photos among others.
        """
        if self.streaming:
            rows = self._streamed()
            return StreamedTextCrops(rows, self._augmentation([]), image_processor, seed)
        sources = self._sources()
        weights = self.train_weights or [1.0] * len(sources)
        crops = (sources, weights, self._augmentation(sources), image_processor)
        return RandomTextCrops(*crops, length=length, seed=seed)

    def _streamed(self) -> Any:
        if self.dataset_name is None or self.train_images or self.train_jsonl:
            raise ValueError("--streaming is for one --dataset_name, without --train_images and --train_jsonl")
        if self.few_shot < 1 or self.copy_paste_probability:
            raise ValueError("--few_shot and --copy_paste_probability need all photos at once: leave out --streaming")
        return load_named_dataset(self.dataset_name, self.train_split, self.dataset_config_name, streaming=True)

    def _augmentation(self, sources: list[Any]) -> TextAugmentation:
        heights, edges = self.word_height_range, self.base_edges
        jitter = photometric_jitter("photometric", self.photometric)
        return TextAugmentation(
            crop_size=(self.crop_size, self.crop_size),
            scale_range=(self.min_scale, self.max_scale),
            base_edges=(edges[0], edges[1]) if edges else None,
            aspect_jitter=self.aspect_jitter,
            photometric=jitter,
            word_height_range=(heights[0], heights[1]) if heights else None,
            rotation=self.rotation,
            turn_probability=self.turn_probability,
            flip_probability=self.flip_probability,
            text_crop_probability=self.text_crop_probability,
            copy_paste=self._copy_paste(sources) if self.copy_paste_probability else None,
        )

    def _sources(self) -> list[Any]:
        """Rows of each training source."""
        if len(self.train_images) != len(self.train_annotations):
            raise ValueError("give one --train_annotations folder for each --train_images folder")
        sources: list[Any] = []
        for images, annotations in zip(self.train_images, self.train_annotations, strict=True):
            rows = self._share_of(load_icdar2015(images, annotations, exclude=self._held_out(images)))
            sources.append(self._decoded(rows, self.decode_once))
        for path in self.train_jsonl:
            rows = _not_empty(load_jsonl(path), path)
            sources.append(self._decoded(self._share_of(rows) if self.jsonl_photos else rows, False))
        if self.dataset_name is not None:
            rows = self._share_of(load_named_dataset(self.dataset_name, self.train_split, self.dataset_config_name))
            sources.append(self._decoded(rows, False))
        sources += [self._public(name) for name in self.train_sets]
        if self.train_rendered is not None:
            names = inspect.signature(RenderedRows).parameters
            sources.append(RenderedRows(**json_settings("train_rendered", self.train_rendered, names)))
        if not sources:
            raise ValueError(
                "nothing to train on: give --train_images and --train_annotations, --train_jsonl, --dataset_name, "
                "--train_sets or --train_rendered"
            )
        if self.few_shot < 1 and not (self.train_images or self.dataset_name or self.train_sets or self.jsonl_photos):
            raise ValueError(
                "--few_shot takes a share of the --train_images folders, and there is none; where the JSON-lines files "
                "hold photos, not rendered scenes, add --jsonl_photos true"
            )
        return sources

    def _public(self, name: str) -> Any:
        """The share of a public data set, `name` or `name:split`."""
        if self.data_root is None:
            raise ValueError("--train_sets are public data sets: say with --data_root where they lie")
        known, _, split = name.partition(":")
        rows = with_random_access(load_text_dataset(known, self.data_root, split or "train"))
        return self._decoded(self._share_of(rows), False)

    def _decoded(self, rows: Any, in_memory: bool) -> Any:
        """Rows with decoded photos, where these are to be kept."""
        return DecodedRows(rows, self.picture_cache) if in_memory or self.picture_cache is not None else rows

    def _held_out(self, images: str) -> str | None:
        """The list of photos of a training folder that are evaluated on."""
        evaluated = bool(self.eval_images) and Path(images).resolve() == Path(str(self.eval_images)).resolve()
        return self.eval_list if evaluated else None

    def _copy_paste(self, sources: list[Any]) -> CopyPaste:
        """Pastes the legible words of the photos among the sources, and of the lists."""
        patches = patches_of_words(word for path in self.copy_paste_words for word in load_word_crops(path))
        rendered = () if self.jsonl_photos else range(len(self.train_images), len(self.train_images + self.train_jsonl))
        annotated = [rows for rows in sources if not isinstance(rows, RenderedRows)]
        photos = [rows for index, rows in enumerate(annotated) if index not in rendered]
        for row in (row for rows in photos for row in rows):
            patches += cut_words(np.asarray(load_image(row["image"])), row_to_instances(row))
        low, high = self.copy_paste_heights
        return CopyPaste(patches, self.copy_paste_probability, self.copy_paste_max_words, (low, high))

    def _share_of(self, rows: Any) -> Any:
        """The rows of the few-shot subset, in their order."""
        return rows.select(few_shot_subset(len(rows), self.few_shot, self.few_shot_seed))

    def evaluation_rows(self) -> Any:
        """Rows to evaluate on, `None` where none are named."""
        if self.eval_jsonl:
            return _not_empty(load_jsonl(self.eval_jsonl), self.eval_jsonl)
        if self.eval_images and self.eval_annotations:
            return load_icdar2015(self.eval_images, self.eval_annotations, include=self.eval_list)
        if self.dataset_name is not None and self.eval_split is not None:
            return load_named_dataset(self.dataset_name, self.eval_split, self.dataset_config_name)
        return None
