"""A flat block of text: one mask of its ink and one tight box for each word."""

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["FlatBlock", "Spacing", "lay_out"]

# Fainter pixels are the anti-aliased rim of a letter.
_FAINTEST_INK = 24


@dataclass
class FlatBlock:
    """Text on a plane, before it is put into perspective.

    Args:
        ink: (H, W) uint8 coverage.
        words: the transcriptions.
        boxes: (N, 4) float32 tight boxes x_min, y_min, x_max, y_max of the words' ink.
        lines: (N,) int64 index of each word's line.
    """

    ink: np.ndarray
    words: list[str]
    boxes: np.ndarray
    lines: np.ndarray


@dataclass
class Spacing:
    """Distances in font sizes.

    Args:
        align: 0 = left, 0.5 = centred, 1 = right.
        leading: from base line to base line.
        word_gap: from word to word.
        tracking: added between letters.
        margin: empty border, in sizes of the first line's font.
    """

    align: float = 0.5
    leading: float = 1.2
    word_gap: float = 0.3
    tracking: float = 0.0
    margin: float = 0.4


@dataclass
class _Glyphs:
    """Letters drawn at once with their pen position (left end of the base line)."""

    text: str
    font: ImageFont.FreeTypeFont
    pen: np.ndarray


def lay_out(lines: list[list[str]], fonts: list[ImageFont.FreeTypeFont], spacing: Spacing) -> FlatBlock:
    """Typeset lines of words below each other.

    Args:
        lines: the words of each line.
        fonts: a face for each line, at the size to draw.
        spacing: distances.
    """
    rows, y = [], 0.0
    for line, font in zip(lines, fonts, strict=True):
        y += spacing.leading * font.size
        rows.append(_set_line(line, font, y, spacing))
    widest = max(width for _, width in rows)
    for row, width in rows:
        for word in row:
            for glyphs in word:
                glyphs.pen[0] += round(spacing.align * (widest - width))
    words = [word for row, _ in rows for word in row]
    bounds = np.array([_bounds(word) for word in words])
    pad = spacing.margin * fonts[0].size
    low = np.floor(bounds[:, :2].min(axis=0) - pad).astype(int)
    size = np.ceil(bounds[:, 2:].max(axis=0) + pad).astype(int) - low
    canvas = Image.new("L", (int(size[0]), int(size[1])))
    draw = ImageDraw.Draw(canvas)
    for glyphs in itertools.chain.from_iterable(words):
        draw.text(tuple(glyphs.pen - low), glyphs.text, fill=255, font=glyphs.font, anchor="ls")
    ink = np.array(canvas)
    boxes = np.array([_tighten(ink, box) for box in (bounds - np.tile(low, 2)).astype(int)], np.float32)
    line_of = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    return FlatBlock(ink, list(itertools.chain.from_iterable(lines)), boxes, line_of)


def _set_line(
    words: list[str], font: ImageFont.FreeTypeFont, baseline: float, spacing: Spacing
) -> tuple[list[list[_Glyphs]], float]:
    """The glyphs of each word, starting at x = 0, and the width of the line. Pens stand on whole pixels."""
    x, line = 0.0, []
    for word in words:
        glyphs = []
        for text in word if spacing.tracking else [word]:
            glyphs.append(_Glyphs(text, font, np.array([round(x), round(baseline)], np.float64)))
            x += font.getlength(text) + spacing.tracking * font.size
        line.append(glyphs)
        x += spacing.word_gap * font.size
    return line, x - spacing.word_gap * font.size


def _bounds(word: list[_Glyphs]) -> tuple[float, float, float, float]:
    """The font's box of a word; it holds the ink and the space that the font leaves behind the last letter."""
    boxes = [glyphs.font.getbbox(glyphs.text, anchor="ls") + np.tile(glyphs.pen, 2) for glyphs in word]
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _tighten(ink: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a box (4,) that has ink; the box itself where a font draws none."""
    left, top, right, bottom = box
    part = ink[top:bottom, left:right] > _FAINTEST_INK
    columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
    if len(rows) == 0:
        return box
    return np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1])
