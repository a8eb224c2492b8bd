"""Scenes a second that one process renders.

    python benchmarks/render_speed.py --backgrounds DIR [--fonts DIR] [--size 640 640] [--count 200]

Prints the processor's time, which other programs on the machine do not lengthen, and the time on the clock.
"""

import argparse
import time
from pathlib import Path

import cv2

from transformers_tcm.data.synthetic import SceneTextRenderer, find_fonts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backgrounds", type=Path, required=True)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    backgrounds = sorted(options.backgrounds.iterdir())
    renderer = SceneTextRenderer(backgrounds, find_fonts(options.fonts), size=tuple(options.size))
    renderer.render(0)
    clock, processor, words = time.perf_counter(), time.process_time(), 0
    for seed in range(1, options.count + 1):
        words += len(renderer.render(seed)[1])
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    width, height = options.size
    print(
        f"{width}x{height}: {options.count / processor:.1f} images a second of one core, "
        f"{options.count / clock:.1f} on the clock, {words / options.count:.1f} words an image"
    )


if __name__ == "__main__":
    main()
