"""Cut the words out of labelled photos or rendered scenes, as a list of word crops to train a recogniser on.

Words that are ignored, unknown or not four-cornered are left out. A crop keeps some surroundings, as a quarter of the
word's height by default, because proposals are not exact either.

    python cut_words.py --jsonl scenes/annotations.jsonl --output words
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


def write_words(jsonl: Path, output: Path, margin: float) -> int:
    """Write `output/images` and the list `output/labels.tsv`; the number of words."""
    (output / "images").mkdir(parents=True, exist_ok=True)
    count = 0
    with (output / "labels.tsv").open("w", encoding="utf-8") as labels:
        for row in tqdm(load_jsonl(jsonl), unit="image"):
            for crop, text, quad in cut_words(load_image(row["image"]), TextInstances.from_json(row), margin):
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
    arguments = parser.parse_args()
    print(f"{write_words(arguments.jsonl, arguments.output, arguments.margin)} words")


if __name__ == "__main__":
    main()
