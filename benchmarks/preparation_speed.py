"""Milliseconds from a JPEG file to the inputs of the bundled models: decoding, resizing, normalising, padding.

    python benchmarks/preparation_speed.py [--image photo.jpg] [--edge 960] [--rounds 15] [--threads 1]

As pipelines do it, which decode large files at 1/2, 1/4 or 1/8, and as they would if all pixels were decoded first.
Both take turns; printed are the medians, and the median of the ratios of one round. Without a photo it is the one of
the examples, enlarged to 4000 x 3000 pixels, with a little noise as of a camera.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import in_turn, median_ratio
from transformers import pipeline

from transformers_tcm import load_image

PHOTO = Path(__file__).parents[1] / "examples" / "images" / "street.jpg"
SIZE = (4000, 3000)
# Of 256 levels.
NOISE = 3


def write_large_photo(path: Path) -> None:
    street = np.asarray(Image.open(PHOTO).resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    noise = np.random.default_rng(0).normal(0, NOISE, street.shape[:2])[..., None]
    Image.fromarray(np.clip(street + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


def measure(image: Path, edge: int, rounds: int) -> None:
    detector, spotter = pipeline("text-detection"), pipeline("text-spotting")
    print(f"{Image.open(image).size[0]} x {Image.open(image).size[1]} pixels, {image.stat().st_size / 1e6:.1f} MB")
    for name, finder, size in (("detector", detector, edge), ("detector", detector, None), ("spotter", spotter, None)):
        ways = {
            "reduced": lambda finder=finder, size=size: finder.preprocess(image, size=size),
            "whole": lambda finder=finder, size=size: finder.preprocess(load_image(image), size=size),
        }
        reduced, whole = in_turn(ways, rounds).values()
        ratio = median_ratio(reduced, whole)
        kind = f"{name}, longest edge {edge}" if size else f"{name}, {dict(finder.image_processor.size)}"
        medians = [1000 * statistics.median(times) for times in (reduced, whole)]
        print(f"{medians[0]:7.1f} ms   {medians[1]:7.1f} ms if all pixels are decoded   {ratio:5.2f} x   {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="JPEG file")
    parser.add_argument("--edge", type=int, default=960, help="longest edge of the network's input")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        image = arguments.image or Path(folder) / "large.jpg"
        if arguments.image is None:
            write_large_photo(image)
        measure(image, arguments.edge, arguments.rounds)


if __name__ == "__main__":
    main()
