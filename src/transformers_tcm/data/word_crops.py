"""Words for a recogniser alone: single crops, and collages of many crops to train on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ..geometry import quad_along_word, transform_points
from ..images import load_image
from ..instances import TextInstances
from ..text_files import read_text
from .datasets import process_for_model, use_one_thread
from .photometric import PhotometricJitter
from .picture_cache import decoded_pictures
from .warp import homography, picture_corners, warp

__all__ = ["MixedDataset", "WordCollages", "WordCrop", "WordPhotos", "load_word_crops"]

# Pixels, of a picture of one word.
LONGEST_WORD = 1024


@dataclass(frozen=True)
class WordCrop:
    """A picture of one word.

    Args:
        image: file of the picture.
        text: the word.
        quad: (4, 2) corners of the word in pixels of the picture, clockwise from the top-left corner of the reading
            direction; by default the word fills the picture.
    """

    image: Path
    text: str
    quad: tuple[tuple[float, float], ...] | None = None

    def corners(self, width: int, height: int) -> np.ndarray:
        """`quad`, or the corners (4, 2) of a picture of that size, from where the word begins."""
        whole = [(0, 0), (width, 0), (width, height), (0, height)]
        return quad_along_word(np.array(whole if self.quad is None else self.quad, np.float32), self.text)


def load_word_crops(
    labels: str | Path, images: str | Path | None = None, exclude: Iterable[str] = ()
) -> list[WordCrop]:
    """Read a list of word crops, a line `file<tab>word` or `file<tab>word<tab>x1,y1,…,x4,y4` for each.

    The coordinates say where in the picture the word is, as `WordCrop.quad`.

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
    for number, line in enumerate(read_text(labels).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, text, quad = _parse_word(line.rstrip("\r"))
        except ValueError as error:
            raise ValueError(
                f"{labels}, line {number}: expected `file<tab>word` or `file<tab>word<tab>x1,y1,…,x4,y4`, got {line!r}"
            ) from error
        if left_out.isdisjoint((name, Path(name).stem)):
            words.append(WordCrop(Path(images) / name, text, quad))
    missing = [word.image for word in words if not word.image.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} pictures of {labels} are missing, the first is {missing[0]}")
    return words


def _parse_word(line: str) -> tuple[str, str, tuple[tuple[float, float], ...] | None]:
    """Name, word and corners of a line."""
    name, text, *rest = line.split("\t")
    if not text or len(rest) > 1:
        raise ValueError("a word is missing, or there is too much")
    if not rest:
        return name, text, None
    numbers = [float(number) for number in rest[0].split(",")]
    if len(numbers) != 8:
        raise ValueError(f"{len(numbers)} coordinates")
    return name, text, tuple(zip(numbers[::2], numbers[1::2], strict=True))


class WordPhotos(Dataset[dict[str, Any]]):
    """Word crops one by one, each as a photo that a single word fills: to evaluate a recogniser.

    Items are as those of `TextPhotos`.

    Args:
        words: the crops.
        image_processor: normalises them.
        height: of the words after resizing, in pixels; less where a picture would become longer than `LONGEST_WORD`.
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
        quad = word.corners(*image.shape[1::-1])
        word_height = np.linalg.norm(quad[[3, 2]] - quad[[0, 1]], axis=1).mean()
        longest = min(self.height / max(word_height, 1) * max(image.shape[:2]), LONGEST_WORD)
        instances = TextInstances([quad], texts=[word.text])
        return process_for_model(self.image_processor, image, instances, size={"longest_edge": round(longest)})


@dataclass(frozen=True)
class WordCollages(Dataset[dict[str, Any]]):
    """An endless supply of canvases full of word crops, cut to a length: to train a recogniser, and nothing else.

    Words stand in rows of random heights, each warped a little, on plain backgrounds. Canvas `i` depends on nothing but
    `seed` and `i`.

    Args:
        words: the crops; they are decoded once and kept.
        image_processor: makes an item of the canvas, see its `training_item`; it is not resized again.
        length: number of canvases.
        seed: of all randomness.
        canvas_size: height and width in pixels.
        word_heights: range of the rows' heights in pixels, log-uniform.
        warp: largest move of a picture's corners relative to the height of its row.
        stretch: largest factor by which words become wider or narrower.
        max_words: on one canvas.
        enlargement: canvases are drawn smaller by a factor from this range and enlarged, as small words of photos are.
        photometric: change of colours of the whole canvas, `None` for none.
        word_photometric: change of colours of each word before it is pasted, `None` for none.
        cache: folder to keep the decoded crops in, see `decoded_pictures`; by default they are in memory.
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
    enlargement: tuple[float, float] = (1.0, 2.5)
    photometric: PhotometricJitter | None = field(default_factory=PhotometricJitter)
    word_photometric: PhotometricJitter | None = None
    cache: str | Path | None = None
    _pictures: Sequence[np.ndarray] = field(init=False, repr=False, compare=False, default_factory=list)
    _quads: list[np.ndarray] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("there are no words to make collages of")
        use_one_thread()
        # The class is frozen for everyone else.
        pictures = decoded_pictures([word.image for word in self.words], self.cache)
        object.__setattr__(self, "_pictures", pictures)
        quads = [word.corners(*picture.shape[1::-1]) for word, picture in zip(self.words, pictures, strict=True)]
        object.__setattr__(self, "_quads", quads)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        canvas, instances = self.draw(np.random.default_rng([self.seed, index]))
        return {**self.image_processor.training_item(canvas, instances), "train_detection": False}

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, TextInstances]:
        """A canvas (H, W, 3) uint8 and its words."""
        import cv2

        enlarged = rng.uniform(*self.enlargement)
        canvas, drawn = self._draw_rows((np.array(self.canvas_size) / enlarged).astype(int), enlarged, rng)
        scale = np.array(self.canvas_size[::-1]) / canvas.shape[1::-1]
        canvas = cv2.resize(canvas, self.canvas_size[::-1], interpolation=cv2.INTER_LINEAR)
        canvas = canvas if self.photometric is None else self.photometric(canvas, rng)
        return canvas, drawn.scale(*scale)

    def _draw_rows(
        self, size: np.ndarray, enlarged: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, TextInstances]:
        """A canvas of a size (height, width) that is still to be enlarged, and its words."""
        height, width = size.tolist()
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = rng.integers(0, 256, 3)
        quads: list[np.ndarray] = []
        texts: list[str | None] = []
        top = 0.0
        while len(texts) < self.max_words:
            row = float(np.exp(rng.uniform(*np.log(self.word_heights)))) / enlarged
            left, bottom = float(rng.uniform(0, row)), top + row
            if bottom > height:
                break
            while len(texts) < self.max_words and left < width - row:
                chosen = int(rng.integers(len(self.words)))
                corners = self._place(chosen, left, top, row, rng)
                if (corners.max(axis=0) > [width, height]).any():
                    break  # the row ends before a word that does not fit
                picture = self._pictures[chosen]
                if self.word_photometric is not None:
                    picture = self.word_photometric(picture, rng)
                quads.append(_paste(canvas, picture, corners, self._quads[chosen]))
                texts.append(self.words[chosen].text)
                left, bottom = corners[:, 0].max() + rng.uniform(0, row), max(bottom, corners[:, 1].max())
            top = bottom + row * float(rng.uniform(0, 0.3))
        return canvas, TextInstances(quads, texts=texts, ignore=np.zeros(len(quads), bool))

    def _place(self, chosen: int, left: float, top: float, row: float, rng: np.random.Generator) -> np.ndarray:
        """Where the corners (4, 2) of a picture go in a row whose height its word is to have."""
        height, width = self._pictures[chosen].shape[:2]
        quad = self._quads[chosen]
        scale = row / max(np.linalg.norm(quad[[3, 2]] - quad[[0, 1]], axis=1).mean(), height / 3)
        stretch = np.exp(rng.uniform(-1, 1) * np.log(self.stretch))
        box = np.array([[0, 0], [width * stretch, 0], [width * stretch, height], [0, height]]) * scale
        inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * rng.uniform(0, self.warp * row, (4, 2))
        return (box + inward + [left, top]).astype(np.float32)


def _paste(canvas: np.ndarray, image: np.ndarray, corners: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Warp a picture to `corners` (4, 2) of the canvas (H, W, 3), in place; where its `quad` (4, 2) comes to lie."""
    source = picture_corners(image)
    moved = transform_points(quad, homography(source, corners))
    limits = canvas.shape[1::-1]
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(int)
    part = canvas[top:bottom, left:right]
    warp(image, homography(source, corners - [left, top]), part.shape[:2], onto=part)
    return moved


class MixedDataset(Dataset[Any]):
    """Draws every item from one of several endless data sets.

    Item `i` is item `i` of a data set chosen by `seed` and `i`, so that it depends on nothing else.

    Args:
        datasets: of items for one collator, each at least `length` long.
        weights: share of the items that each gives; normalised to a sum of 1.
        length: number of items.
        seed: of the choice.

    Raises:
        ValueError: if there is not one weight for each data set, none is positive, or a data set is too short.
    """

    def __init__(self, datasets: Sequence[Any], weights: Sequence[float], length: int, seed: int = 0):
        lengths = [len(dataset) for dataset in datasets]
        usable = len(weights) == len(lengths) > 0 and min(weights) >= 0 and sum(weights) > 0
        if not usable or min(lengths) < length:
            raise ValueError(
                f"expected a weight for each data set, not all of them 0, and {length} items in each; got weights "
                f"{list(weights)} for data sets of {lengths} items"
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
