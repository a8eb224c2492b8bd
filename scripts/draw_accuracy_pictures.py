"""Draw what the bundled spotter makes of ten pictures that show where it reads and where it fails.

    python scripts/draw_accuracy_pictures.py docs/images/accuracy.jpg [--fonts /usr/share/fonts]

The photo of the examples and signs that are rendered here, each from a fixed seed; the fonts that are installed decide
what they look like. Green words are found and read exactly, orange ones are found and read otherwise, red ones are
missed, and magenta is where no word stands. Of wide empty grounds only what is around the words is shown.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from transformers import pipeline

import transformers_tcm  # noqa: F401  (registers the pipeline)
from transformers_tcm import TextInstances
from transformers_tcm.data.loaders import load_jsonl, row_to_instances
from transformers_tcm.data.rendering.fonts import find_fonts
from transformers_tcm.data.rendering.signs import SignRenderer, SignStyle
from transformers_tcm.data.rendering.words import PlainWordSampler
from transformers_tcm.evaluation.failures import Outcome, classify
from transformers_tcm.visualization import draw_text_instances
from transformers_tcm.visualization.lettering import load_font

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "images" / "street.jsonl"
CHARSET = "".join(map(chr, range(33, 127)))
GREEN, ORANGE, RED, MAGENTA = (20, 160, 60), (240, 130, 0), (220, 20, 30), (200, 0, 200)
COLUMNS, PANEL, GAP, TITLE = 2, (640, 420), 10, 26
# Side of the picture, heights of capitals, words; all in plain colours, as no photographs come with this package.
SIGNS = {
    "a sign": ((600, 600), (24, 60), (5, 9)),
    "letters of a third of the picture": ((480, 480), (110, 150), (1, 2)),
    "a small picture": ((140, 140), (14, 20), (2, 4)),
    "letters of 10 pixels": ((800, 800), (10, 11), (12, 20)),
    "a full page": ((1200, 1200), (26, 34), (30, 40)),
    "small print on a picture of 3,000 pixels": ((3000, 3000), (14, 16), (20, 30)),
}
TURNS = {"turned by 90°": 1, "turned by 180°": 2}


def pictures(fonts: Path) -> Iterator[tuple[str, Image.Image, TextInstances]]:
    """Ten titles, pictures and what is written on them."""
    row = load_jsonl(PHOTO)[0]
    photo, words = row["image"].convert("RGB"), row_to_instances(row)
    yield "the photo of the examples", photo, words
    half = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS)
    yield "the same at half its size", half, scaled(words, 0.5)
    drawn, faces = PlainWordSampler(CHARSET), find_fonts(fonts)
    for seed, (title, (sides, heights, count)) in enumerate(SIGNS.items()):
        style = SignStyle(sides=sides, heights=heights, words=count, photo=0.0, slant=0.3)
        pixels, signs = SignRenderer(drawn, faces, [PHOTO], style).render(seed)
        yield title, Image.fromarray(pixels), signs
    for title, turns in TURNS.items():
        yield title, *turned(photo, words, turns)


def scaled(words: TextInstances, factor: float) -> TextInstances:
    """Words of a picture that is `factor` times as large."""
    return TextInstances([factor * polygon for polygon in words.polygons], words.ignore, texts=words.texts)


def turned(picture: Image.Image, words: TextInstances, quarters: int) -> tuple[Image.Image, TextInstances]:
    """A picture and its words, turned anticlockwise by so many right angles."""
    polygons, width, height = list(words.polygons), picture.width, picture.height
    for _ in range(quarters):
        polygons = [np.stack([one[:, 1], width - one[:, 0]], axis=1) for one in polygons]
        width, height = height, width
    pixels = np.ascontiguousarray(np.rot90(np.asarray(picture), quarters))
    return Image.fromarray(pixels), TextInstances(polygons, words.ignore, texts=words.texts)


def around_words(picture: Image.Image, words: TextInstances, colors: Any) -> Image.Image:
    """A picture with words drawn, cut to what is around them."""
    points = np.concatenate(words.polygons)
    margin = 0.15 * np.ptp(points, axis=0).max() + 20
    left, top = np.maximum(points.min(axis=0) - margin, 0).astype(int).tolist()
    right, bottom = np.minimum(points.max(axis=0) + margin, picture.size).astype(int).tolist()
    polygons = [polygon - np.float32([left, top]) for polygon in words.polygons]
    cut = picture.crop((left, top, right, bottom))
    return draw_text_instances(cut, TextInstances(polygons, texts=words.texts), color=colors)


def panel(title: str, picture: Image.Image, truth: TextInstances, found: list[dict]) -> Image.Image:
    """A picture with what became of its words, below a line that counts them."""
    texts = [str(one["text"]) for one in found]
    detections = TextInstances([np.float32(one["polygon"]) for one in found], texts=texts)
    outcomes = classify(truth, detections, title, with_words=True)
    colors = {Outcome.MATCHED: GREEN, Outcome.WRONG_WORD: ORANGE, Outcome.IGNORED: GREEN}
    lost = [index for index, one in enumerate(outcomes.labels) if one in (Outcome.MISSED, Outcome.INEXACT)]
    polygons = [*detections.polygons, *(truth.polygons[index] for index in lost)]
    shown = TextInstances(polygons, texts=[*texts, *([None] * len(lost))])
    paints = [colors.get(one, MAGENTA) for one in outcomes.found] + [RED] * len(lost)
    drawing = around_words(picture, shown, paints)
    drawing.thumbnail(PANEL, Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (PANEL[0], PANEL[1] + TITLE), "white")
    whole.paste(drawing, ((PANEL[0] - drawing.width) // 2, TITLE))
    read = sum(one is Outcome.MATCHED for one in outcomes.labels)
    line = f"{title}: {read} of {len(truth)} words read exactly"
    ImageDraw.Draw(whole).text((4, 3), line, fill="black", font=load_font(16))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    arguments = parser.parse_args()
    spot = pipeline("text-spotting")
    panels = [panel(title, picture, truth, spot(picture)) for title, picture, truth in pictures(arguments.fonts)]
    width, height = panels[0].size
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) - GAP, -(-len(panels) // COLUMNS) * (height + GAP)), "white")
    for index, one in enumerate(panels):
        sheet.paste(one, (index % COLUMNS * (width + GAP), index // COLUMNS * (height + GAP)))
    sheet.save(arguments.output, quality=85)


if __name__ == "__main__":
    main()
