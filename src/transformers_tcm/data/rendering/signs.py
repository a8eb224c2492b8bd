"""Plain signs: crisp words of any height on a plain ground, a gradient or a mild photograph.

What people photograph or copy from a screen besides streets: notices, labels, covers, slides. The scenes of
`transformers_tcm.data.synthetic` hold small, slanted, degraded text; here letters are as sharp as they were drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageFont

from ...geometry import transform_points
from ...instances import TextInstances
from ..warp import warp
from .fonts import FontCache
from .layout import FlatBlock, Spacing, lay_out
from .paint import Paint, choose_colour, luminance, paint_layers, street_colour
from .placement import PlacementMap
from .warp import word_polygon
from .words import WordSampler

__all__ = ["SignRenderer", "SignStyle"]

# Capitals are about this part of the font size high.
_CAPITAL = 0.72
_ASPECTS = (1.0, 1.25, 4 / 3, 1.5, 16 / 9, 2.0, 3.0)
# Beyond this spread of grey levels behind a block its letters need a board to be as plain as those of a sign.
_PLAIN_SPREAD = 18.0
# Grey levels between letters and what is behind them.
_LEAST_CONTRAST = 60.0
# Blocks tried for a picture, and pictures tried for a seed.
_TRIES, _PICTURES = 12, 200


@dataclass(frozen=True)
class SignStyle:
    """What signs look like.

    Args:
        sides: shortest and longest of the longer side of a picture in pixels, log-uniform.
        heights: least and most of the capital letters in pixels, log-uniform; less where the picture is small.
        words: fewest and most words of a picture, log-uniform; fewer where there is no room.
        gradient, photo: probabilities of a gradient and of a blurred photograph behind the words.
        board: probability of a board under a block.
        slant: probability that a block is turned by a few degrees.
    """

    sides: tuple[int, int] = (96, 4000)
    heights: tuple[float, float] = (10.0, 400.0)
    words: tuple[int, int] = (1, 40)
    gradient: float = 0.15
    photo: float = 0.4
    board: float = 0.25
    slant: float = 0.15


class SignRenderer:
    """Renders signs, each a function of its seed.

    Args:
        words: what is written.
        fonts: font files that draw the words, as `find_fonts` lists them.
        backgrounds: image files, for the mild photographs.
        style: what signs look like.

    Raises:
        ValueError: if there are no fonts or no backgrounds.
    """

    def __init__(
        self,
        words: WordSampler,
        fonts: Sequence[str | Path],
        backgrounds: Sequence[str | Path],
        style: SignStyle | None = None,
    ):
        for name, values in (("fonts", fonts), ("backgrounds", backgrounds)):
            if not values:
                raise ValueError(f"`{name}` is empty; the renderer needs at least one")
        self.words = words
        self.fonts = FontCache(fonts)
        self.backgrounds = [str(path) for path in backgrounds]
        self.style = style or SignStyle()

    def render(self, seed: int) -> tuple[np.ndarray, TextInstances]:
        """The image (H, W, 3) uint8 RGB and the words of sign `seed`; there is always at least one word.

        Raises:
            ValueError: if the words are too long for pictures of this style.
        """
        rng = np.random.default_rng(seed)
        for _ in range(_PICTURES):
            image, instances = self._render_once(rng)
            if len(instances):
                return image, instances
        raise ValueError(
            f"no word fits into a picture of {self.style.sides} pixels in capitals of {self.style.heights[0]} pixels; "
            "give shorter words, larger `sides` or lower `heights`"
        )

    def _render_once(self, rng: np.random.Generator) -> tuple[np.ndarray, TextInstances]:
        """A picture, which has no words where those that were drawn did not fit."""
        width, height = self._draw_size(rng)
        canvas = self._draw_background(rng, width, height)
        free = PlacementMap(np.rint(canvas).astype(np.uint8))
        left = round(_log_uniform(rng, *self.style.words))
        polygons: list[np.ndarray] = []
        texts: list[str | None] = []
        for _ in range(_TRIES):
            flat = self._write(rng, width, height, left)
            outlines = None if flat is None else self._paint(canvas, free, flat, rng)
            if flat is not None and outlines is not None:
                polygons, texts, left = polygons + outlines, texts + list(flat.words), left - len(flat.words)
            if left <= 0:
                break
        return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), TextInstances(polygons, texts=texts)

    def _draw_size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Width and height; seven of ten pictures lie on their longer side."""
        longer = _log_uniform(rng, *self.style.sides)
        shorter = max(longer / _ASPECTS[rng.integers(len(_ASPECTS))], 2 * self.style.heights[0])
        sides = round(longer), round(shorter)
        return sides if rng.random() < 0.7 else sides[::-1]

    def _draw_background(self, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
        """What is behind the words, (H, W, 3) float32."""
        kind, colour = rng.random(), street_colour(rng)
        if kind < self.style.photo:
            return self._mild_photo(rng, width, height)
        canvas = np.empty((height, width, 3), np.float32)
        canvas[:] = colour
        if kind < self.style.photo + self.style.gradient:
            end = np.clip(colour + rng.uniform(-90, 90, 3), 0, 255)
            towards = np.linspace(0, 1, width)[None, :] if rng.random() < 0.5 else np.linspace(0, 1, height)[:, None]
            canvas += (towards[..., None] * (end - colour)).astype(np.float32)
        return canvas

    def _mild_photo(self, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
        """A blurred photograph of less contrast, (H, W, 3) float32."""
        import cv2

        path = self.backgrounds[rng.integers(len(self.backgrounds))]
        photo = cv2.imread(path, cv2.IMREAD_COLOR)
        if photo is None:
            raise FileNotFoundError(f"background {path} is missing or not an image")
        # Blurred while small: a photograph that is out of focus has nothing finer.
        photo = cv2.GaussianBlur(photo, (0, 0), float(rng.uniform(1.0, 8.0)))
        photo = cv2.resize(photo[..., ::-1], (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        middle = photo.mean(axis=(0, 1))
        return middle + (photo - middle) * np.float32(rng.uniform(0.3, 0.9))

    def _write(self, rng: np.random.Generator, width: int, height: int, count: int) -> FlatBlock | None:
        """At most `count` words in lines that fit into a picture; `None` where the first does not."""
        low, high = self.style.heights
        capital = _log_uniform(rng, low, min(high, max(0.6 * height, low)))
        face = int(rng.integers(len(self.fonts)))
        spacing = Spacing(
            align=float(rng.choice([0.0, 0.5], p=[0.5, 0.5])),
            leading=float(rng.uniform(1.15, 1.6)),
            word_gap=float(rng.uniform(0.28, 0.5)),
            tracking=float(rng.uniform(0.03, 0.15)) if rng.random() < 0.08 else 0.0,
            margin=float(rng.uniform(0.2, 0.5)),
        )
        limit = int(rng.integers(1, count + 1)) if rng.random() < 0.5 else count
        words = self._line(rng, face, limit)
        # The first word has to fit: where it is too wide the letters become smaller.
        unit = self._font(face, 100).getlength(words[0]) / 100 + len(words[0]) * spacing.tracking + 2 * spacing.margin
        capital = min(capital, 0.9 * width / unit * _CAPITAL)
        if capital < low:
            return None
        font = self._font(face, round(capital / _CAPITAL))
        lines = _wrap(words, font, spacing, 0.95 * width, 0.95 * height)
        return lay_out(lines, [font] * len(lines), spacing) if lines else None

    def _line(self, rng: np.random.Generator, face: int, count: int) -> list[str]:
        """Words in runs of one case, in capitals where a face has no other letters."""
        words: list[str] = []
        while len(words) < count:
            words += self.words.line(rng, min(int(rng.integers(1, 7)), count - len(words)))
        return [word.upper() for word in words] if self.fonts.is_unicase(face) else words

    def _font(self, face: int, size: int) -> ImageFont.FreeTypeFont:
        # Not from the cache's ladder of sizes, which would round the heights.
        return ImageFont.truetype(self.fonts.paths[face], size, layout_engine=ImageFont.Layout.BASIC)

    def _paint(
        self, canvas: np.ndarray, free: PlacementMap, flat: FlatBlock, rng: np.random.Generator
    ) -> list[np.ndarray] | None:
        """Put a block onto the canvas, in place; outlines (4, 2) of its words, `None` if there is no place for it."""
        height, width = flat.ink.shape
        slanted = rng.random() < self.style.slant
        matrix, size = _turn(width, height, float(rng.uniform(-0.14, 0.14)) if slanted else 0.0)
        corner = free.find(rng, size)
        if corner is None:
            return None
        area = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        free.occupy(transform_points(area, matrix) + corner)
        board = np.full_like(flat.ink, 255)
        layers = {"ink": flat.ink, "board": board}
        if slanted:
            window = (int(size[1]), int(size[0]))
            layers = {name: warp(layer, matrix, window) for name, layer in layers.items()}
        region = canvas[corner[1] : corner[1] + size[1], corner[0] : corner[0] + size[0]]
        on_board = rng.random() < self.style.board or float(region.mean(axis=2).std()) > _PLAIN_SPREAD
        behind = street_colour(rng) if on_board else region.reshape(-1, 3).mean(axis=0)
        paint = Paint(ink=_draw_ink(rng, behind), board=behind if on_board else None, lighting=0.0)
        coverage = {name: layer.astype(np.float32) / 255 for name, layer in layers.items()}
        region[...] = paint_layers(region, coverage, paint)[1]
        return [transform_points(word_polygon(box, None), matrix) + corner.astype(np.float32) for box in flat.boxes]


def _draw_ink(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A colour (3,) that stands out from another by its brightness, not by its hue alone."""
    ink = choose_colour(rng, behind, float(rng.uniform(110, 200)))
    if abs(luminance(ink) - luminance(behind)) < _LEAST_CONTRAST:
        ink = np.full(3, 245.0 if luminance(behind) < 128 else 15.0, np.float32)
    return ink


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _wrap(
    words: list[str], font: ImageFont.FreeTypeFont, spacing: Spacing, width: float, height: float
) -> list[list[str]]:
    """Lines of words, as many as a box has room for."""
    margin = 2 * spacing.margin * font.size
    lines: list[list[str]] = []
    pen = 0.0
    for word in words:
        length = font.getlength(word) + (len(word) * spacing.tracking + spacing.word_gap) * font.size
        if not lines or pen + length > width - margin:
            # Descenders and accents reach beyond a font's size.
            if (1.3 + spacing.leading * len(lines)) * font.size + margin > height and lines:
                break
            lines.append([])
            pen = 0.0
        if length > width - margin + spacing.word_gap * font.size:
            break
        lines[-1].append(word)
        pen += length
    return [line for line in lines if line]


def _turn(width: int, height: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (2, 3) that turns a box around its middle into a window at (0, 0), and the window's width, height."""
    if angle == 0:
        return np.array([[1.0, 0, 0], [0, 1.0, 0]]), np.array([width, height])
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0]])
    corners = transform_points(np.array([[0, 0], [width, 0], [width, height], [0, height]]), matrix)
    # Negative corners would be cut off.
    matrix[:, 2] = -corners.min(axis=0)
    return matrix, np.ceil(corners.max(axis=0) - corners.min(axis=0)).astype(int)
