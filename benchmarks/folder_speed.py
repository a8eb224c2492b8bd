"""How much faster the commands are over a folder than a loop over its photos, and the memory that takes.

    python benchmarks/folder_speed.py --images photos [--photos 20] [--task text-detection] [--draw] [--rounds 3]

The loop loads a photo, runs the pipeline with all threads, writes the result, and goes on with the next; `detect` and
`spot` do that for several photos at once. Both take turns, after a photo to warm up; printed are medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from timing import median_ratio, peak_megabytes

from transformers_tcm.cli.result_files import ResultWriter
from transformers_tcm.cli.support import load_pipeline, run_on_images
from transformers_tcm.images import list_images, load_image


def one_by_one(detector: Any, writer: ResultWriter) -> None:
    """The loop that anybody would write."""
    for path in writer.names:
        image = load_image(path)
        writer.write(path, image, detector(image))


def several_at_once(detector: Any, writer: ResultWriter) -> None:
    """What the commands do."""
    if failed := run_on_images(detector, writer, quiet=True):
        raise SystemExit(f"error: {failed} images failed")


def seconds_of(run: Callable[[Any, ResultWriter], None], detector: Any, paths: list[Path], draw: bool) -> float:
    with TemporaryDirectory() as folder:
        writer = ResultWriter(Path(folder), "json", paths, draw)
        start = time.perf_counter()
        run(detector, writer)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--task", default="text-detection", choices=["text-detection", "text-spotting"])
    parser.add_argument("--draw", action="store_true", help="also write the pictures with their text")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths = list_images(arguments.images)[: arguments.photos]
    detector = load_pipeline(arguments.task, None, "cpu", {})
    detector(load_image(paths[0]))
    loop, folder, peaks = [], [], []
    for _ in range(arguments.rounds):
        loop.append(seconds_of(one_by_one, detector, paths, arguments.draw))
        peaks.append(peak_megabytes())
        folder.append(seconds_of(several_at_once, detector, paths, arguments.draw))
        peaks.append(peak_megabytes())
    ratio = median_ratio(loop, folder)
    print(f"{arguments.task}, {len(paths)} photos, {arguments.threads} threads, {arguments.rounds} rounds")
    print(f"{statistics.median(loop):8.2f} s one by one; memory {peaks[0]:.0f} MB after the first round")
    print(f"{statistics.median(folder):8.2f} s several at once, {ratio:.2f} times as fast; {peaks[1]:.0f} MB")
    print(f"memory after {arguments.rounds} rounds: {peaks[-1]:.0f} MB")


if __name__ == "__main__":
    main()
