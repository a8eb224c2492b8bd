"""Seconds per image of the bundled detector: the whole pipeline, and parts of it, next to a plain float32 forward.

    python benchmarks/detection_speed.py [--image photo.jpg] [--rounds 7] [--threads 2]

The variants take turns within each round, so that a machine whose speed drifts treats them alike; printed are the
medians, and the median of the ratios to the plain float32 forward of the same round.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import torch
from timing import in_turn, median_ratio
from transformers import pipeline

import transformers_tcm

PHOTO = Path(__file__).parents[1] / "examples" / "images" / "street.jpg"
WIDTH, HEIGHT = 960, 544


def variants(photo: PIL.Image.Image) -> dict[str, Callable[[], object]]:
    """What is timed, the reference first."""
    folder = transformers_tcm.bundled_model_path()
    plain = transformers_tcm.TCMForTextDetection.from_pretrained(folder, dtype="float32").eval()
    detector = pipeline("text-detection", size={"height": HEIGHT, "width": WIDTH})
    default = pipeline("text-detection")
    pixels = detector.image_processor(photo, size={"height": HEIGHT, "width": WIDTH})["pixel_values"]
    fast_pixels = pixels.to(detector.dtype)
    outputs = detector.model(fast_pixels)
    return {
        f"plain float32 forward, {WIDTH}x{HEIGHT}": lambda: plain(pixels),
        f"forward as in the pipeline ({detector.dtype}), {WIDTH}x{HEIGHT}": lambda: detector.model(fast_pixels),
        f"post-processing, {WIDTH}x{HEIGHT}": lambda: detector.image_processor.post_process_text_detection(outputs),
        f"whole pipeline, {WIDTH}x{HEIGHT}": lambda: detector(photo),
        f"whole pipeline, its own size {dict(default.image_processor.size)}": lambda: default(photo),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    timed = variants(PIL.Image.open(arguments.image).convert("RGB"))
    seconds = in_turn(timed, arguments.rounds)
    reference = next(iter(seconds.values()))
    for name, values in seconds.items():
        print(f"{statistics.median(values):8.3f} s   {median_ratio(values, reference):5.2f} x   {name}")


if __name__ == "__main__":
    main()
