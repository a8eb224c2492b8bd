"""Cut the words out of labelled photos or rendered scenes, as a list of word crops to train a recogniser on.

Words that are ignored, unknown or not four-cornered are left out. A crop keeps some surroundings, as a quarter of the
word's height by default, because proposals are not exact either. With --pairs neighbours on a line are cut out in the
place of words, as one with a space between them: detectors find small words as one, and where a recogniser sees the
space, they are told apart.

    python cut_words.py --jsonl scenes/annotations.jsonl --output words
    python cut_words.py --jsonl scenes/annotations.jsonl --output pairs --pairs
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from transformers_tcm import geometry
from transformers_tcm.data.loaders import load_jsonl
from transformers_tcm.images import load_image
from transformers_tcm.instances import TextInstances

# Of neighbours on a line, in heights of the first: the gap between them, and the largest step up or down.
NARROWEST_GAP, WIDEST_GAP, LARGEST_STEP = -0.1, 0.9, 0.3
# How much higher one may be, the angle between them in degrees, and the letters that still fit into a crop.
LARGEST_RATIO, LARGEST_ANGLE, MOST_LETTERS = 1.4, 15, 20


def neighbours(instances: TextInstances) -> TextInstances:
    """Each word together with the next one on its line, as a quadrilateral around both."""
    texts = instances.texts or []
    known = [
        index
        for index, (polygon, text) in enumerate(zip(instances.polygons, texts, strict=False))
        if len(polygon) == 4 and text and not instances.ignored[index]
    ]
    if len(known) < 2:
        return TextInstances([], texts=[])
    quads = np.stack([instances.polygons[index] for index in known])  # (N, 4, 2)
    begins, ends = quads[:, [0, 3]].mean(axis=1), quads[:, [1, 2]].mean(axis=1)
    heights = np.linalg.norm(quads[:, [3, 2]] - quads[:, [0, 1]], axis=2).mean(axis=1)
    along = (ends - begins) / np.maximum(np.linalg.norm(ends - begins, axis=1), 1e-6)[:, None]
    pairs, words = [], []
    for index in range(len(known)):
        x, y = along[index]
        # From the end of this word, along it and across it.
        gap, step = ((begins - ends[index]) @ np.array([[x, -y], [y, x]]) / max(heights[index], 1e-6)).T
        ratio = np.maximum(heights / heights[index], heights[index] / heights)
        near = (gap >= NARROWEST_GAP) & (gap <= WIDEST_GAP) & (abs(step) <= LARGEST_STEP) & (ratio <= LARGEST_RATIO)
        near &= along @ along[index] > np.cos(np.deg2rad(LARGEST_ANGLE))
        near[index] = False
        if not near.any():
            continue
        following = int(np.where(near, gap, np.inf).argmin())
        text = f"{texts[known[index]]} {texts[known[following]]}"
        if len(text) <= MOST_LETTERS:
            pairs.append(np.stack([quads[index, 0], quads[following, 1], quads[following, 2], quads[index, 3]]))
            words.append(text)
    return TextInstances(pairs, texts=words)


def cut_words(
    image: Image.Image, instances: TextInstances, margin: float
) -> Iterator[tuple[Image.Image, str, np.ndarray]]:
    """Crops of an image's words, what they say, and their corners (4, 2) in pixels of the crop."""
    texts = instances.texts or [None] * len(instances)
    for polygon, text, ignored in zip(instances.polygons, texts, instances.ignored, strict=True):
        if ignored or not text or len(polygon) != 4:
            continue
        room = margin * min(np.linalg.norm(polygon[3] - polygon[0]), np.linalg.norm(polygon[1] - polygon[0]))
        left, top, right, bottom = geometry.bounding_box(polygon)
        low = np.floor(np.maximum([left - room, top - room], 0)).astype(int)
        high = np.ceil(np.minimum([right + room, bottom + room], image.size)).astype(int)
        if (high - low >= 2).all():
            yield image.crop((*low.tolist(), *high.tolist())), text, polygon - low


def write_words(jsonl: Path, output: Path, margin: float, pairs: bool = False) -> int:
    """Write `output/images` and the list `output/labels.tsv`; the number of words."""
    (output / "images").mkdir(parents=True, exist_ok=True)
    count = 0
    with (output / "labels.tsv").open("w", encoding="utf-8") as labels:
        for row in tqdm(load_jsonl(jsonl), unit="image"):
            words = TextInstances.from_json(row)
            words = neighbours(words) if pairs else words
            for crop, text, quad in cut_words(load_image(row["image"]), words, margin):
                name = f"{count:07d}.jpg"
                crop.save(output / "images" / name, quality=92)
                labels.write(f"{name}\t{text}\t{','.join(f'{value:.1f}' for value in quad.flatten())}\n")
                count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jsonl", type=Path, required=True, help="labelled photos, see `load_jsonl`")
    parser.add_argument("--output", type=Path, required=True, help="folder for images/ and labels.tsv")
    parser.add_argument("--margin", type=float, default=0.25, help="room around a word, in heights of the word")
    parser.add_argument("--pairs", action="store_true", help="cut out neighbours on a line, two at a time")
    arguments = parser.parse_args()
    print(f"{write_words(**vars(arguments))} words")


if __name__ == "__main__":
    main()
