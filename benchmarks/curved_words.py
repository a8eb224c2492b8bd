"""Words along arcs, learned by heart: a new head that reads finds them as curved polygons and reads them.

    python benchmarks/curved_words.py --output docs/images/learned_arcs.jpg [--head testr] [--steps 1000]

Draws four pictures with two bent words each on grounds made here, trains a tiny model of random weights on nothing else
until the pipeline reads every word, and draws what the pipeline finds. That shows that outlines and characters go the
whole road from labels to results; how well a head reads other pictures it does not show.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from PIL import Image, ImageFont
from transformers import pipeline

from transformers_tcm import TCMConfig, TCMForTextSpotting, TCMImageProcessor, TextInstances
from transformers_tcm.data.collation import TextDetectionCollator
from transformers_tcm.data.datasets import process_for_model
from transformers_tcm.data.rendering.layout import Spacing, lay_out
from transformers_tcm.data.rendering.warp import Bend, word_polygon
from transformers_tcm.data.rendering.writer import contact_sheet
from transformers_tcm.training import parameter_groups
from transformers_tcm.visualization import draw_text_instances

WIDTH, HEIGHT = 160, 128
# Of each picture the upper and the lower word; the first is bent down at its ends, the second up.
WORDS = [("harbour", "market"), ("summer", "garden"), ("coffee", "bakery"), ("museum", "cinema")]
FONT_SIZE, RADIUS = 30, 62
INKS = [((250, 228, 170), (200, 160, 120)), ((190, 220, 235), (120, 170, 200)), ((215, 235, 200), (150, 190, 130))]
VISION = {"width": 16, "depths": [1, 1, 1, 1], "projection_dim": 32, "num_attention_heads": 4}
TEXT = {"hidden_size": 16, "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
HEAD: dict[str, Any] = {
    "hidden_size": 64,
    "num_heads": 4,
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "mlp_size": 128,
    "num_queries": 12,
    "dropout": 0.0,
    "charset": "abcdefghijklmnopqrstuvwxyz",
}
# TESTR has a slot for every character, DeepSolo as many as points.
FURTHER: dict[str, dict[str, Any]] = {"testr": {"max_length": 8}, "deepsolo": {}}
LEARNING_RATE, MAX_NORM = 1e-3, 1.0
# Steps between two looks at what is read.
INTERVAL = 50


def ground(seed: int) -> np.ndarray:
    """A gradient with a little noise, (HEIGHT, WIDTH, 3) float32."""
    start, end = (np.float32(color) for color in INKS[seed % len(INKS)])
    shade = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(seed).normal(0, 6, (HEIGHT, WIDTH, 1))
    pixels: np.ndarray = (1 - shade) * start + shade * end + noise
    return pixels


def write_along_arc(pixels: np.ndarray, text: str, middle: tuple[float, float], radius: float) -> np.ndarray:
    """Draw a word into a picture, in place; its outline (14, 2)."""
    font = ImageFont.load_default(size=FONT_SIZE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's own, where a size is given
    flat = lay_out([[text]], [font], Spacing(margin=0.1))
    bend = Bend(flat.ink.shape[1] / 2, flat.ink.shape[0] / 2, radius)
    ink = bend.apply(flat.ink[:, :, None]).astype(np.float32)[:, :, None] / 255
    left, top = (round(place - size / 2) for place, size in zip(middle, ink.shape[1::-1], strict=True))
    part = pixels[top : top + ink.shape[0], left : left + ink.shape[1]]
    part += ink * (np.float32([40, 30, 60]) - part)
    return word_polygon(flat.boxes[0], bend) + np.float32([left, top])


def draw_picture(seed: int) -> tuple[np.ndarray, TextInstances]:
    """Picture (HEIGHT, WIDTH, 3) uint8 `seed` and its words."""
    pixels, rng = ground(seed), np.random.default_rng(seed)
    polygons = [
        write_along_arc(pixels, text, (WIDTH / 2 + rng.uniform(-8, 8), HEIGHT / 2 + side * 32), -side * RADIUS)
        for text, side in zip(WORDS[seed], (-1, 1), strict=True)
    ]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), TextInstances(polygons, texts=list(WORDS[seed]))


def new_spotter(head: str) -> tuple[TCMForTextSpotting, TCMImageProcessor]:
    torch.manual_seed(0)
    config = TCMConfig(
        vision_config=VISION,
        text_config=TEXT,
        decoder_hidden_size=16,
        decoder_num_heads=2,
        decoder_num_layers=1,
        head_type=head,
        head_config=HEAD | FURTHER[head],
    )
    processor = TCMImageProcessor(do_resize=False, polygon=True).for_model(config)
    return TCMForTextSpotting(config), processor


def find(model: TCMForTextSpotting, processor: TCMImageProcessor, pictures: list[np.ndarray]) -> list[TextInstances]:
    """What the pipeline finds in each picture, outlines as polygons."""
    spotter = pipeline("text-spotting", model=model.eval(), image_processor=processor)
    photos = [Image.fromarray(picture) for picture in pictures]
    return [TextInstances.from_detections(spotter(photo, polygon=True)) for photo in photos]


def learn(
    head: str, pictures: list[np.ndarray], words: list[TextInstances], steps: int
) -> tuple[list[TextInstances], int]:
    """What a new model finds once it reads every word, or after so many steps; and the steps it took."""
    model, processor = new_spotter(head)
    items = [process_for_model(processor, *pair) for pair in zip(pictures, words, strict=True)]
    batch = TextDetectionCollator(model.config)(items)
    optimizer = torch.optim.AdamW(parameter_groups(model, LEARNING_RATE, 1e-4, image_encoder_scale=1.0), fused=True)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model.train()(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        if step % INTERVAL == 0 or step == steps:
            found = find(model, processor, pictures)
            exact, overlap = agreement(found, words)
            print(
                f"step {step}: loss {float(loss.detach()):.3f}, {exact} words exact, mean IoU {overlap:.3f}", flush=True
            )
            if exact == sum(len(one) for one in words) and overlap > 0.8:
                break
    return found, step


def agreement(found: list[TextInstances], words: list[TextInstances]) -> tuple[int, float]:
    """How many words are read exactly, and the mean over words of the IoU of the outline with that reading."""
    overlaps = []
    for one, truth in zip(found, words, strict=True):
        outlines = dict(zip(one.texts or [], one.polygons, strict=True))
        for text, polygon in zip(truth.texts or [], truth.polygons, strict=True):
            overlaps.append(iou(outlines[text], polygon) if text in outlines else 0.0)
    return sum(overlap > 0 for overlap in overlaps), float(np.mean(overlaps))


def iou(first: np.ndarray, second: np.ndarray) -> float:
    one, other = (shapely.buffer(shapely.Polygon(outline), 0) for outline in (first, second))
    return float(one.intersection(other).area / one.union(other).area)


def draw(pictures: list[np.ndarray], found: list[TextInstances], scale: int = 3) -> Image.Image:
    """Polygons and readings in the pictures, enlarged and side by side."""
    drawn = []
    for picture, one in zip(pictures, found, strict=True):
        large = Image.fromarray(picture).resize((WIDTH * scale, HEIGHT * scale), Image.Resampling.BICUBIC)
        outlined = draw_text_instances(large, one.scale(scale, scale), line_width=2)
        drawn.append(np.asarray(outlined)[: HEIGHT * scale])
    return Image.fromarray(contact_sheet(drawn, columns=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", choices=list(FURTHER), default="testr")
    parser.add_argument("--steps", type=int, default=1000, help="at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="file of the picture")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures, words = map(list, zip(*(draw_picture(seed) for seed in range(len(WORDS))), strict=True))
    found, steps = learn(options.head, pictures, words, options.steps)
    exact, overlap = agreement(found, words)
    print(f"{exact} of {sum(map(len, words))} words exact, mean IoU {overlap:.3f}, after {steps} steps")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw(pictures, found).save(options.output, quality=90)


if __name__ == "__main__":
    main()
