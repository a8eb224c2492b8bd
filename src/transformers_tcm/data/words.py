"""Words for a recogniser alone: single crops, and collages of many crops to train on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..images import load_image
from ..instances import TextInstances
from .datasets import process_for_model
from .photometric import PhotometricJitter

__all__ = ["MixedDataset", "WordCollages", "WordCrop", "WordPhotos", "load_word_crops"]


@dataclass(frozen=True)
class WordCrop:
    """A picture of one word.

    Args:
        image: file of the picture.
        text: the word.
    """

    image: Path
    text: str


def load_word_crops(
    labels: str | Path, images: str | Path | None = None, exclude: Iterable[str] = ()
) -> list[WordCrop]:
    """Read a list of word crops, a line `file<tab>word` for each.

    Args:
        labels: the list, UTF-8.
        images: folder of the pictures, by default the folder `images` beside the list, or that of the list.
        exclude: names of files to leave out, with or without suffix.

    Raises:
        FileNotFoundError: if the list or a picture is missing.
        ValueError: naming the line that is not of this form.
    """
    labels = Path(labels)
    if images is None:
        images = labels.parent / "images" if (labels.parent / "images").is_dir() else labels.parent
    left_out = set(exclude)
    words = []
    for number, line in enumerate(labels.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        name, tab, text = line.rstrip("\r").partition("\t")
        if not tab or not text:
            raise ValueError(f"{labels}, line {number}: expected `file<tab>word`, got {line!r}")
        if left_out.isdisjoint((name, Path(name).stem)):
            words.append(WordCrop(Path(images) / name, text))
    missing = [word.image for word in words if not word.image.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} pictures of {labels} are missing, the first is {missing[0]}")
    return words


class WordPhotos(Dataset):
    """Word crops one by one, each as a photo that a single word fills: to evaluate a recogniser.

    Items are as those of `TextPhotos`.

    Args:
        words: the crops.
        image_processor: normalises them.
        height: to which each is resized, in pixels; at most `8 * height` wide.
    """

    def __init__(self, words: Sequence[WordCrop], image_processor: Any, height: int = 48):
        self.words = words
        self.image_processor = image_processor
        self.height = height

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Any]:
        word = self.words[index]
        image = np.asarray(load_image(word.image))
        scale = self.height / image.shape[0]
        width = int(np.clip(round(image.shape[1] * scale), 8, 8 * self.height))
        corners = np.array([[0, 0], [image.shape[1], 0], [image.shape[1], image.shape[0]], [0, image.shape[0]]])
        instances = TextInstances([corners], texts=[word.text])
        return process_for_model(self.image_processor, image, instances, size={"height": self.height, "width": width})


@dataclass(frozen=True)
class WordCollages(Dataset):
    """An endless supply of canvases full of word crops, cut to a length: to train a recogniser.

    Words stand in rows of random heights, each warped a little, on plain backgrounds. Canvas `i` depends on nothing but
    `seed` and `i`.

    Args:
        words: the crops; they are decoded once and kept in memory.
        image_processor: normalises the canvas; it is not resized again.
        length: number of canvases.
        seed: of all randomness.
        canvas_size: height and width in pixels.
        word_heights: range of the rows' heights in pixels, log-uniform.
        warp: largest move of a word's corners relative to its height.
        stretch: largest factor by which words become wider or narrower.
        max_words: on one canvas.
        photometric: change of colours of the whole canvas, `None` for none.
    """

    words: Sequence[WordCrop]
    image_processor: Any
    length: int
    seed: int = 0
    canvas_size: tuple[int, int] = (320, 320)
    word_heights: tuple[float, float] = (14.0, 56.0)
    warp: float = 0.12
    stretch: float = 1.25
    max_words: int = 24
    photometric: PhotometricJitter | None = field(default_factory=PhotometricJitter)
    _pictures: list[np.ndarray] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("there are no words to make collages of")
        pictures = [np.asarray(load_image(word.image)) for word in self.words]
        object.__setattr__(self, "_pictures", pictures)  # the class is frozen for everyone else

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        canvas, instances = self.draw(np.random.default_rng([self.seed, index]))
        return process_for_model(self.image_processor, canvas, instances, do_resize=False)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, TextInstances]:
        """A canvas (H, W, 3) uint8 and its words."""
        height, width = self.canvas_size
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = rng.integers(0, 256, 3)
        quads: list[np.ndarray] = []
        texts: list[str | None] = []
        top = 0.0
        while len(texts) < self.max_words:
            row = float(np.exp(rng.uniform(*np.log(self.word_heights))))
            if top + row > height:
                break
            left = float(rng.uniform(0, row))
            while len(texts) < self.max_words and left < width - row:
                chosen = int(rng.integers(len(self.words)))
                image = self._pictures[chosen]
                quad = self._place(image, left, top, row, rng)
                left = float(quad[:, 0].max()) + float(rng.uniform(0, row))
                if quad[:, 0].max() > width:
                    break  # the row ends before a word that is too wide for what is left of it
                _paste(canvas, image, quad)
                quads.append(quad)
                texts.append(self.words[chosen].text)
            top += row * float(rng.uniform(1.0, 1.3))
        canvas = canvas if self.photometric is None else self.photometric(canvas, rng)
        return canvas, TextInstances(quads, texts=texts, ignore=np.zeros(len(quads), bool))

    def _place(self, image: np.ndarray, left: float, top: float, row: float, rng: np.random.Generator) -> np.ndarray:
        """Where a word's corners (4, 2) go in a row."""
        stretch = np.exp(rng.uniform(-1, 1) * np.log(self.stretch))
        width = row * image.shape[1] / image.shape[0] * stretch
        box = np.array([[0, 0], [width, 0], [width, row], [0, row]], np.float32)
        inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * rng.uniform(0, self.warp * row, (4, 2))
        return (box + inward + [left, top]).astype(np.float32)


def _paste(canvas: np.ndarray, image: np.ndarray, quad: np.ndarray) -> None:
    """Warp a picture into a quad (4, 2) of the canvas (H, W, 3), in place."""
    import cv2

    limits = canvas.shape[1::-1]
    left, top = np.clip(np.floor(quad.min(axis=0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(quad.max(axis=0)), 0, limits).astype(int)
    if left >= right or top >= bottom:
        return
    shrink = max(1, int(image.shape[0] / max(np.linalg.norm(quad[3] - quad[0]), 1)))
    if shrink > 1:
        # Bilinear sampling skips pixels below half size.
        size = (max(image.shape[1] // shrink, 1), max(image.shape[0] // shrink, 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    # Points count from the pixels' corners, OpenCV from their centres.
    matrix = cv2.getPerspectiveTransform(corners - 0.5, (quad - [left, top] - 0.5).astype(np.float32))
    part = canvas[top:bottom, left:right]
    size = (right - left, bottom - top)
    cv2.warpPerspective(image, matrix, size, dst=part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


class MixedDataset(Dataset):
    """Draws every item from one of several endless data sets.

    Item `i` is item `i` of a data set chosen by `seed` and `i`, so that it depends on nothing else.

    Args:
        datasets: of items for one collator, each at least `length` long.
        weights: share of the items that each gives; normalised to a sum of 1.
        length: number of items.
        seed: of the choice.

    Raises:
        ValueError: if there is not one weight for each data set, or one is too short.
    """

    def __init__(self, datasets: Sequence[Any], weights: Sequence[float], length: int, seed: int = 0):
        if not datasets or len(datasets) != len(weights) or min(len(dataset) for dataset in datasets) < length:
            raise ValueError(
                f"expected a weight for each data set and {length} items in each; got {len(weights)} weights for data "
                f"sets of {[len(dataset) for dataset in datasets]} items"
            )
        self.datasets = list(datasets)
        self.weights = np.asarray(weights, dtype=np.float64) / sum(weights)
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        rng = np.random.default_rng([self.seed, index])
        return self.datasets[rng.choice(len(self.datasets), p=self.weights)][index]
