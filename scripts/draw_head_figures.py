"""Draw the figures of the pages of heads and recognisers: what each is taught about the same three words.

    python scripts/draw_head_figures.py docs/images/heads

Words and ground are drawn here; `targets` of the heads and the curves of `bezier` make the rest of their outlines.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transformers_tcm import TextInstances
from transformers_tcm.bezier import bezier_points, bezier_to_polygon, fit_bezier
from transformers_tcm.data.rendering.aerial import AERIAL_CLASSES, AerialRenderer
from transformers_tcm.models.tcm.heads import head_class
from transformers_tcm.models.tcm.heads.spn import SPNDecoding
from transformers_tcm.visualization import draw_objects, draw_text_instances
from transformers_tcm.visualization.objects import class_colors

SIZE = HEIGHT, WIDTH = 256, 384
GAP = 8
INK = (40, 30, 60)
# Word, height in pixels, its middle, radius of the circle that it runs along, and tilt in radians, clockwise.
WORDS = [
    ("SUMMER", 50, (150, 72), 130, 0.0),
    ("sale", 56, (300, 150), 3000, -0.35),
    ("50% off", 38, (130, 205), 3000, 0.0),
]
Color = tuple[int, int, int]
Panels = Sequence[np.ndarray | Image.Image]


def flat_word(text: str, height: int) -> np.ndarray:
    """A word as coverage (height, width) in [0, 1], letters filling the height."""
    font = ImageFont.load_default(size=height)
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (round(right - left) + 8, round(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), text, fill=255, font=font)
    return np.asarray(canvas, np.float32) / 255


def bent_word(
    text: str, height: int, middle: tuple[float, float], radius: float, tilt: float
) -> tuple[np.ndarray, np.ndarray]:
    """A word along a circle: its coverage (H, W), and its outline of 18 points (18, 2) from the upper left corner."""
    flat = flat_word(text, height)
    rows, columns = flat.shape
    center = middle[0] - radius * np.sin(tilt), middle[1] + radius * np.cos(tilt)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    distance = np.hypot(x - center[0], y - center[1])
    # Angle from the middle of the word, in (-pi, pi].
    angle = (np.arctan2(x - center[0], center[1] - y) - tilt + np.pi) % (2 * np.pi) - np.pi
    u, v = angle * radius + columns / 2, radius + rows / 2 - distance
    coverage = cv2.remap(flat, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    angles = tilt + np.linspace(-0.5, 0.5, 9) * columns / radius
    sides = [(radius + rows / 2, angles), (radius - rows / 2, angles[::-1])]
    points = [np.stack([center[0] + r * np.sin(a), center[1] - r * np.cos(a)], axis=1) for r, a in sides]
    return coverage, np.concatenate(points)


def draw_scene() -> tuple[Image.Image, TextInstances]:
    """The picture and its words."""
    shade = np.linspace(0, 1, HEIGHT)[:, None, None]
    pixels = (1 - shade) * np.array([250, 214, 140]) + shade * np.array([150, 200, 215]) + np.zeros((1, WIDTH, 1))
    outlines = []
    for word in WORDS:
        coverage, outline = bent_word(*word)
        pixels += coverage[:, :, None] * (np.array(INK) - pixels)
        outlines.append(outline.astype(np.float32))
    return Image.fromarray(pixels.round().astype(np.uint8)), TextInstances(outlines, texts=[word[0] for word in WORDS])


def side_by_side(panels: Panels) -> Image.Image:
    """Pictures of one height in a row."""
    pictures = [panel if isinstance(panel, Image.Image) else Image.fromarray(panel) for panel in panels]
    row = Image.new(
        "RGB", (sum(one.width for one in pictures) + GAP * (len(pictures) - 1), pictures[0].height), "white"
    )
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    return row


def grey(values: np.ndarray) -> np.ndarray:
    """A map (H, W) from its lowest value in black to its highest in white."""
    floats = values.astype(np.float32)
    scaled: np.ndarray = (255 * (floats - floats.min()) / np.ptp(floats)).astype(np.uint8)
    return scaled


def colored(numbers: np.ndarray) -> np.ndarray:
    """Numbers of words (H, W) as colours, 0 as black."""
    colors = np.array([(0, 0, 0), *class_colors(len(WORDS))], np.uint8)
    return colors[numbers]


def outlined(
    photo: Image.Image, polygons: Sequence[np.ndarray], color: tuple[int, int, int] = (20, 120, 60)
) -> Image.Image:
    """The picture with outlines."""
    return draw_text_instances(photo, TextInstances(list(polygons)), color=color, line_width=2)


def dotted(photo: Image.Image, points: np.ndarray, color: str = "#d84315", radius: float = 3.5) -> Image.Image:
    """The picture with points (…, 2), the first of each word larger."""
    drawn = photo.copy()
    draw = ImageDraw.Draw(drawn)
    for word in points:
        for index, (x, y) in enumerate(word):
            size = radius * (1.6 if index == 0 else 1)
            draw.ellipse((x - size, y - size, x + size, y + size), fill=color)
    return drawn


def straightened(photo: Image.Image, curves: np.ndarray, rows: int = 56, columns: int = 200) -> np.ndarray:
    """The region between both Bézier curves (8, 2) as a crop (rows, columns, 3)."""
    t = np.linspace(0, 1, columns)
    upper, lower = bezier_points(curves[:4], t), bezier_points(curves[4:], t[::-1])
    down = np.linspace(0, 1, rows)[:, None, None]
    grid = ((1 - down) * upper + down * lower).astype(np.float32)  # (rows, columns, 2)
    return cv2.remap(np.asarray(photo), grid[..., 0], grid[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def fourier_outline(coefficients: np.ndarray, degree: int) -> np.ndarray:
    """Points (80, 2) of a word's series (2, 2K + 1), real and imaginary parts, cut off after a degree."""
    k = np.arange(coefficients.shape[1]) - coefficients.shape[1] // 2
    waves = np.exp(2j * np.pi * np.outer(k, np.arange(80) / 80))
    curve = ((coefficients[0] + 1j * coefficients[1]) * (abs(k) <= degree)) @ waves
    return np.stack([curve.real, curve.imag], axis=1).astype(np.float32)


def targets_of(name: str, words: TextInstances, **settings: Any) -> dict[str, np.ndarray]:
    """What a head is taught."""
    head = head_class(name)
    return head.targets(words, SIZE, SIZE, head.config_class(**settings))


def dbnet(photo: Image.Image, words: TextInstances) -> Panels:
    targets = targets_of("dbnet", words)
    return [outlined(photo, words.polygons), grey(targets["shrink_map"]), grey(targets["threshold_map"])]


def pan(photo: Image.Image, words: TextInstances) -> Panels:
    targets = targets_of("pan", words)
    return [outlined(photo, words.polygons), colored(targets["text_ids"]), colored(targets["kernel_ids"])]


def fcenet(photo: Image.Image, words: TextInstances) -> Panels:
    series = targets_of("fcenet", words)["word_coefficients"]
    return [outlined(photo, [fourier_outline(word, degree) for word in series]) for degree in (1, 2, 5)]


def abcnet(photo: Image.Image, words: TextInstances) -> Panels:
    curves = targets_of("abcnet", words)["word_curves"]
    drawn = dotted(outlined(photo, [bezier_to_polygon(word) for word in curves]), curves)
    crops = np.full((HEIGHT, 200, 3), 255, np.uint8)
    for row, word in enumerate(curves):
        crops[30 + 70 * row : 86 + 70 * row] = straightened(photo, word)
    return [drawn, crops]


def testr(photo: Image.Image, words: TextInstances) -> Panels:
    panels = []
    for curve in ("polygon", "bezier"):
        points = targets_of("testr", words, curve=curve)["word_points"] * [WIDTH, HEIGHT]
        around = [bezier_to_polygon(word) if curve == "bezier" else word for word in points]
        panels.append(dotted(outlined(photo, around), points))
    return panels


def deepsolo(photo: Image.Image, words: TextInstances) -> Panels:
    targets = targets_of("deepsolo", words)
    edges = targets["word_boundary"].reshape(len(words), -1, 2, 2) * [WIDTH, HEIGHT]  # point, upper or lower, x y
    lines = dotted(photo, targets["word_points"] * [WIDTH, HEIGHT], radius=2.5)
    both = dotted(dotted(lines, edges[:, :, 0], "#1565c0", 2), edges[:, :, 1], "#2e7d32", 2)
    return [lines, both]


def mask_textspotter(photo: Image.Image, words: TextInstances) -> Panels:
    shrunk = targets_of("spn", words)["shrink_map"]
    maps = {"prob_map": shrunk[None, None].astype(np.float32)}
    found = [regions_of("spn", maps, SPNDecoding(polygon=polygon)) for polygon in (True, False)]
    drawn = outlined(outlined(photo, found[1], (21, 101, 192)), found[0])
    inside = cv2.fillPoly(np.zeros(SIZE, np.uint8), [np.rint(found[0][0]).astype(np.int32)], 1)
    return [grey(shrunk), drawn, np.asarray(photo) * inside[:, :, None]]


def regions_of(name: str, maps: dict[str, np.ndarray], decoding: Any) -> list[np.ndarray]:
    """The outlines that a head decodes from maps."""
    import torch

    tensors = {key: torch.from_numpy(value) for key, value in maps.items()}
    return head_class(name).decode(tensors, torch.tensor([SIZE]), decoding).polygons()


def sequence_readers(photo: Image.Image, words: TextInstances) -> Panels:
    """A word along its curves; below its crop the classes of CTC's steps, a dot for none, and what is left of them."""
    curves = fit_bezier(words.polygons[0])
    crop = Image.fromarray(straightened(photo, curves, HEIGHT // 4, WIDTH))
    steps = Image.new("RGB", (WIDTH, HEIGHT), "white")
    steps.paste(crop, (0, 24))
    draw, font = ImageDraw.Draw(steps), ImageFont.load_default(size=20)
    word = WORDS[0][0]
    width = WIDTH / (4 * len(word))
    for step in range(4 * len(word)):
        left, letter = step * width, word[step // 4]
        draw.line((left, 24, left, 24 + crop.height + 40), fill="#d84315")
        named = step % 4 in (1, 2)
        draw.text((left + width / 2, 112), letter if named else "·", fill=INK, font=font, anchor="mm")
        if step % 4 == 1:
            draw.text((left + width, 190), letter, fill=INK, font=ImageFont.load_default(size=40), anchor="mm")
    return [dotted(outlined(photo, [bezier_to_polygon(curves)]), curves[None]), steps]


def oriented(ground: Path) -> Panels:
    """Rendered objects on a ground of soft colours, which is written to a file."""
    colors = np.random.default_rng(0).integers(60, 200, (6, 6, 3)).astype(np.uint8)
    Image.fromarray(colors).resize((640, 640), Image.Resampling.BICUBIC).save(ground)
    scene, objects = AerialRenderer([ground], size=WIDTH, max_objects=14, seed=2).render(5)
    return [scene, draw_objects(scene, objects, dict(enumerate(AERIAL_CLASSES)))]


FIGURES: list[Callable[[Image.Image, TextInstances], Panels]] = [
    dbnet, pan, fcenet, abcnet, testr, deepsolo, mask_textspotter, sequence_readers,
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    photo, words = draw_scene()
    for figure in FIGURES:
        side_by_side(figure(photo, words)).save(folder / f"{figure.__name__}.png", optimize=True)
    with tempfile.TemporaryDirectory() as grounds:
        side_by_side(oriented(Path(grounds) / "ground.png")).save(folder / "oriented.jpg", quality=85)


if __name__ == "__main__":
    main()
