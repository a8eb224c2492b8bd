"""Rendered scenes and signs as a source of training crops, drawn when they are asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..synthetic import PRINTABLE_ASCII, SceneTextRenderer
from .backgrounds import split_backgrounds
from .fonts import find_fonts
from .signs import SignRenderer, SignStyle
from .words import WordSampler

__all__ = ["RenderedRows"]

# Seeds, so many that hardly any is drawn twice.
COUNT = 2**31
# Longest side of a sign: larger ones cost more to draw than they teach in a crop.
LARGEST_SIGN = 1280


class RenderedRows(Sequence[Mapping[str, Any]]):
    """Rows as those of an annotated data set, row `i` rendered from seed `i` and from nothing else.

    Args:
        backgrounds: folder of photographs without text; those that are kept to judge by are left out, see
            `split_backgrounds`.
        fonts: folder searched for fonts.
        words: text file of words in place of the built-in ones.
        signs: share of plain signs (`SignRenderer`), the rest being street scenes (`SceneTextRenderer`).
        size: width and height of the scenes in pixels.

    Raises:
        FileNotFoundError: if there is no photograph or no font.
        ValueError: for a share outside [0, 1].
    """

    def __init__(
        self,
        backgrounds: str | Path,
        fonts: str | Path = "/usr/share/fonts",
        words: str | Path | None = None,
        signs: float = 0.5,
        size: Sequence[int] = (640, 640),
    ):
        if not 0 <= signs <= 1:
            raise ValueError(f"`signs` is {signs}; expected the share of signs, in [0, 1]")
        photos, _ = split_backgrounds(backgrounds)
        vocabulary = None if words is None else Path(words).read_text(encoding="utf-8").split()
        sampler, faces = WordSampler(PRINTABLE_ASCII, vocabulary), find_fonts(fonts)
        width, height = size
        self.scenes = SceneTextRenderer(photos, faces, sampler, (width, height))
        self.signs = SignRenderer(sampler, faces, photos, SignStyle(sides=(96, LARGEST_SIGN)))
        self.sign_share = signs

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < COUNT:
            raise IndexError(f"there are seeds 0 … {COUNT - 1}, got {index}")
        renderer = self.signs if np.random.default_rng([index]).random() < self.sign_share else self.scenes
        image, instances = renderer.render(index)
        texts = instances.texts or [None] * len(instances)
        return {"image": image, "polygons": instances.polygons, "texts": texts, "ignore": instances.ignored}
