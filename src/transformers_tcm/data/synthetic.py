"""Scene text rendered into photographs: training data for detectors without labels by hand.

The idea of choosing flat regions and warping text into them follows SynthText (Gupta et al., CVPR 2016) and its faster
successors; regions here are picked by local texture alone, without depth or segmentation.
`python -m transformers_tcm.data.synthetic --help` writes a data set to disk.
"""

import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from ..instances import TextInstances
from .rendering.block import BlockArtist, DrawnBlock, SceneStyle
from .rendering.camera import Camera
from .rendering.fonts import FontCache, find_fonts
from .rendering.placement import PlacementMap
from .rendering.words import WordSampler

__all__ = ["Scene", "SceneStyle", "SceneTextRenderer", "SyntheticTextDataset", "find_fonts"]

PRINTABLE_ASCII = string.digits + string.ascii_letters + string.punctuation


@dataclass
class Scene:
    """A rendered photograph.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: the words; unreadable ones are ignored.
        lines: (N,) index of the text line each word belongs to.
    """

    image: np.ndarray
    instances: TextInstances
    lines: np.ndarray


class SceneTextRenderer:
    """Renders text into photographs, every scene a function of its seed.

    Args:
        backgrounds: image files, ideally without text of their own.
        fonts: font files that draw `charset`, as `find_fonts` lists them.
        words: vocabulary; by default street words, names, prices, times and numbers. A sampler brings a charset of its
            own.
        size: (width, height) of the scenes in pixels.
        charset: the characters that may be drawn, without the space; of scripts written from left to right in letters
            that do not join.
        style: how often the renderer does what.

    Raises:
        ValueError: if a list or the charset is empty.
    """

    def __init__(
        self,
        backgrounds: Sequence[str | Path],
        fonts: Sequence[str | Path],
        words: list[str] | WordSampler | None = None,
        size: tuple[int, int] = (640, 640),
        charset: str = PRINTABLE_ASCII,
        style: SceneStyle | None = None,
    ):
        for name, values in (("backgrounds", backgrounds), ("fonts", fonts), ("charset", charset)):
            if not values:
                raise ValueError(f"`{name}` is empty; the renderer needs at least one")
        self.backgrounds = [str(path) for path in backgrounds]
        self.size = size
        self.style = style or SceneStyle()
        sampler = words if isinstance(words, WordSampler) else WordSampler(charset, words)
        self._artist = BlockArtist(sampler, FontCache(fonts), self.style)

    def render(self, seed: int) -> tuple[np.ndarray, TextInstances]:
        """The image (H, W, 3) uint8 RGB and the words of scene `seed`."""
        scene = self.render_scene(seed)
        return scene.image, scene.instances

    def render_scene(self, seed: int) -> Scene:
        """As `render`, with the lines of the words."""
        rng = np.random.default_rng(seed)
        background = self._background(rng)
        camera = Camera.draw(rng) if self.style.camera else Camera()
        free = PlacementMap(background)
        canvas = background.astype(np.float32)
        few, many = self.style.blocks
        count = max(round(rng.integers(few, many + 1) * self.size[0] * self.size[1] / 640**2), min(few, 1))
        drawn = [self._artist.draw(canvas, free, camera, rng) for _ in range(count)]
        instances, lines = _gather([block for block in drawn if block is not None])
        return Scene(camera.take(np.rint(canvas).astype(np.uint8), rng), instances, lines)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """A random part of a random photograph, (H, W, 3) uint8 of the scene's size."""
        import cv2

        path = self.backgrounds[rng.integers(len(self.backgrounds))]
        photo = cv2.imread(path, cv2.IMREAD_COLOR)
        if photo is None:
            raise FileNotFoundError(f"background {path} is missing or not an image")
        width, height = self.size
        fit = min(photo.shape[1] / width, photo.shape[0] / height) * float(rng.uniform(0.6, 1.0))
        part = np.array([width * fit, height * fit])
        x, y = (rng.random(2) * (np.array(photo.shape[1::-1]) - part)).astype(int)
        photo = photo[y : y + max(int(part[1]), 1), x : x + max(int(part[0]), 1), ::-1]
        if rng.random() < 0.5:
            photo = photo[:, ::-1]
        return cv2.resize(np.ascontiguousarray(photo), self.size, interpolation=cv2.INTER_LINEAR)


def _gather(blocks: list[DrawnBlock]) -> tuple[TextInstances, np.ndarray]:
    """The words of all blocks, and lines numbered through the scene."""
    lines, start = [np.zeros(0, np.int64)], 0
    for block in blocks:
        lines.append(block.lines + start)
        start += int(block.lines.max(initial=-1)) + 1
    instances = TextInstances(
        [polygon for block in blocks for polygon in block.polygons],
        texts=[word for block in blocks for word in block.words],
        ignore=np.array([flag for block in blocks for flag in block.ignore], dtype=bool),
    )
    return instances, np.concatenate(lines)


class SyntheticTextDataset(IterableDataset[Any]):
    """Streams scenes; worker i of n renders the seeds start + i, start + i + n, …, so that none comes twice.

    Args:
        renderer: renders the scenes.
        length: number of scenes; endless by default.
        start: the first seed; another range of seeds is another data set.
        transform: applied to each (image, instances), for example an augmentation; the data set gives its result.
    """

    def __init__(
        self,
        renderer: SceneTextRenderer,
        length: int | None = None,
        start: int = 0,
        transform: Callable[[np.ndarray, TextInstances], Any] | None = None,
    ):
        self.renderer = renderer
        self.length = length
        self.start = start
        self.transform = transform

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        index, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while self.length is None or index < self.length:
            image, instances = self.renderer.render(self.start + index)
            yield (image, instances) if self.transform is None else self.transform(image, instances)
            index += step


if __name__ == "__main__":
    from .rendering.writer import main

    main()
