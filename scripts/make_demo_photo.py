"""Make the demo photo: words rendered into a photograph, as signs on its walls, and where they are.

    python scripts/make_demo_photo.py PHOTO street.jpg --sans BOLD.ttf --display POSTER.otf --script PEN.ttf

writes the picture and, beside it, `street.jsonl` with the exact outline of every word. `examples/images/README.md` says
which photograph and fonts the picture in this repository was made with.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from transformers_tcm import TextInstances, geometry
from transformers_tcm.data.loaders import save_jsonl

CROP = (0, 700, 2056, 2071)  # of the photograph
SIZE = (1280, 853)
# Signs are drawn this much larger than they appear, so that their edges are smooth.
OVERSAMPLING = 3

Color = tuple[int, int, int]


@dataclass
class Word:
    """A word on a sign: its middle, the size of its letters, and the role of its font."""

    text: str
    x: float
    y: float
    size: int
    color: Color
    font: str = "sans"


@dataclass
class Sign:
    """A flat sign of `size` units, seen with its `corners` at these pixels of the picture.

    Without a `board` the words are painted on what is there.
    """

    corners: list[tuple[float, float]]
    size: tuple[int, int]
    words: list[Word]
    board: Color | None = None
    border: Color | None = None
    blur: float = 1.0


NAVY, CREAM, INK, RED, RUST = (28, 52, 96), (238, 232, 214), (38, 36, 40), (176, 34, 36), (52, 34, 24)

SIGNS = [
    Sign(
        [(764, 42), (1110, 72), (1110, 228), (764, 240)],
        (340, 185),
        [
            Word("DOG", 74, 62, 74, CREAM, "display"),
            Word("SCHOOL", 219, 62, 74, CREAM, "display"),
            Word("since", 117, 138, 46, CREAM, "script"),
            Word("1987", 220, 136, 40, CREAM),
        ],
        NAVY,
        CREAM,
    ),
    Sign(
        [(1000, 287), (1214, 276), (1223, 450), (1008, 462)],
        (210, 170),
        [
            Word("PUPPY", 105, 38, 58, RED, "display"),
            Word("CLASS", 105, 92, 58, RED, "display"),
            Word("Saturday", 66, 142, 27, INK),
            Word("10:30", 163, 142, 27, INK),
        ],
        (246, 243, 232),
    ),
    Sign(
        [(884, 512), (1268, 509), (1268, 612), (884, 612)],
        (400, 110),
        [Word("PLEASE", 108, 54, 80, RUST, "display"), Word("RING", 282, 54, 80, RUST, "display")],
    ),
    Sign(
        [(128, 205), (208, 208), (208, 268), (128, 267)],
        (80, 60),
        [Word("27", 40, 30, 40, (250, 250, 246))],
        (24, 66, 48),
        (250, 250, 246),
    ),
    Sign(
        [(128, 777), (478, 783), (478, 842), (128, 838)],
        (350, 58),
        [Word("Beware", 82, 28, 42, RUST), Word("of", 182, 28, 42, RUST), Word("kisses", 266, 28, 42, RUST)],
    ),
]


def draw_sign(sign: Sign, fonts: dict[str, Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The flat sign as RGBA (H, W, 4) uint8, and the outline (4, 2) of each word in units of the sign."""
    width, height = (OVERSAMPLING * side for side in sign.size)
    image = Image.new("RGBA", (width, height), (*sign.board, 255) if sign.board else (*sign.words[0].color, 0))
    draw = ImageDraw.Draw(image)
    if sign.border:
        inset = 5 * OVERSAMPLING
        frame = (inset, inset, width - inset, height - inset)
        draw.rounded_rectangle(frame, radius=inset, outline=sign.border, width=2 * OVERSAMPLING)
    outlines = []
    for word in sign.words:
        font = ImageFont.truetype(fonts[word.font], OVERSAMPLING * word.size)
        middle = (OVERSAMPLING * word.x, OVERSAMPLING * word.y)
        draw.text(middle, word.text, (*word.color, 255), font, anchor="mm")
        left, top, right, bottom = draw.textbbox(middle, word.text, font, anchor="mm")
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        outlines.append(corners / OVERSAMPLING)
    return np.asarray(image), outlines


def put_up(photo: np.ndarray, sign: Sign, fonts: dict[str, Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The photo (H, W, 3) float32 in 0…255 with the sign in it, and the outlines of its words in the photo."""
    flat, outlines = draw_sign(sign, fonts)
    view = perspective(sign.size, np.array(sign.corners))
    layer = warp(flat, sign)
    color, opacity = layer[..., :3], layer[..., 3:] / 255
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    if sign.board:
        photo = photo * (1 - 0.5 * cast_shadow(opacity))
        # The light on the wall falls on the sign too.
        light = cv2.GaussianBlur(grey, (0, 0), 30)
        shade = light / light[opacity[..., 0] > 0.5].mean()
    else:
        # Paint follows the grain of the wood and is thinner where it is rough.
        shade = grey / cv2.GaussianBlur(grey, (0, 0), 8)
        opacity = opacity * np.clip(0.35 + 0.5 * shade, 0, 0.9)[..., None]
    mixed = photo * (1 - opacity) + color * np.clip(shade, 0.5, 1.5)[..., None] * opacity
    return mixed, [geometry.transform_points(outline, view) for outline in outlines]


def perspective(size: tuple[int, int], corners: np.ndarray) -> np.ndarray:
    """(3, 3) projection of a plane of this width and height onto its corners in the picture."""
    width, height = size
    plane = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return cv2.getPerspectiveTransform(plane, corners.astype(np.float32))


def warp(flat: np.ndarray, sign: Sign) -> np.ndarray:
    """The sign as the camera sees it, RGBA (H, W, 4) float32 as large as the picture, slightly out of focus."""
    large = (OVERSAMPLING * SIZE[0], OVERSAMPLING * SIZE[1])
    view = perspective((flat.shape[1], flat.shape[0]), OVERSAMPLING * np.array(sign.corners))
    # Colours beyond the edge repeat, so that only the opacity fades.
    color = cv2.warpPerspective(flat[..., :3], view, large, borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpPerspective(flat[..., 3], view, large)
    layer = cv2.resize(np.dstack([color, opacity]), SIZE, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(layer, (0, 0), sign.blur).astype(np.float32)


def cast_shadow(opacity: np.ndarray) -> np.ndarray:
    """Soft shadow (H, W, 1) below and to the right."""
    moved = cv2.warpAffine(opacity, np.array([[1, 0, 5], [0, 1, 7]], np.float32), SIZE)
    return cv2.GaussianBlur(moved, (0, 0), 5)[..., None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, help="the photograph without words")
    parser.add_argument("output", type=Path, help="the JPEG file to write")
    for role in ("sans", "display", "script"):
        parser.add_argument(f"--{role}", type=Path, required=True, help=f"font file for {role} letters")
    options = parser.parse_args()
    fonts = {role: getattr(options, role) for role in ("sans", "display", "script")}
    with Image.open(options.photo) as original:
        picture = np.asarray(original.convert("RGB").crop(CROP).resize(SIZE, Image.Resampling.LANCZOS), np.float32)
    outlines: list[np.ndarray] = []
    for sign in SIGNS:
        picture, found = put_up(picture, sign, fonts)
        outlines += found
    grain = np.random.default_rng(0).normal(0, 2, picture.shape[:2])[..., None]
    Image.fromarray(np.clip(picture + grain, 0, 255).astype(np.uint8)).save(options.output, quality=88, optimize=True)
    words = [word.text for sign in SIGNS for word in sign.words]
    instances = TextInstances(outlines, texts=words, ignore=np.zeros(len(words), bool))
    save_jsonl(options.output.with_suffix(".jsonl"), [options.output], [instances])


if __name__ == "__main__":
    main()
