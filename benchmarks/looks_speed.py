"""What further looks, the votes on the direction, and `word_boundaries` take of the bundled spotter's time for a photo.

    python benchmarks/looks_speed.py --images photos [--include val.txt] [--photos 24] [--rounds 3] [--threads 2]

All take turns on every photo of a folder. Printed are milliseconds, the mean over the photos of their medians; how many
times as long as everything that is, by the ratios of the same round; and how often the network looks at a photo.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import in_turn, median_ratio
from transformers import pipeline

from transformers_tcm import load_image

EVERYTHING, WITHOUT_BOUNDARIES = "everything", "without word boundaries"
# What each run leaves out, as arguments of the pipeline.
RUNS: Mapping[str, Mapping[str, Any]] = {
    EVERYTHING: {},
    "without votes": {"orientation": "upright"},
    "one look, without votes": {"orientation": "upright", "coarse_edge": 0},
}


def without_boundaries(spotter: Any, photo: Any) -> None:
    recognizer = spotter.model.recognizer
    boundaries, recognizer.boundaries = recognizer.boundaries, None
    try:
        spotter(photo)
    finally:
        recognizer.boundaries = boundaries


def looks_taken(spotter: Any, run: Callable[[], object]) -> int:
    looks: list[object] = []
    with spotter.model.model.register_forward_hook(lambda *_: looks.append(None)):
        run()
    return len(looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--include", type=Path, help="a list of file names, or names without their endings")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    files = sorted(file for file in arguments.images.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if arguments.include is not None:
        names = set(arguments.include.read_text(encoding="utf-8").split())
        files = [file for file in files if names & {file.name, file.stem}]
    if not files:
        parser.error(f"{arguments.images} holds none of the photos asked for")
    spotter: Any = pipeline("text-spotting", model="fasttcm-spotter-tiny", device="cpu")
    rows: dict[str, list[tuple[float, float, int]]] = {}
    for file in files[: arguments.photos]:
        photo = load_image(str(file))
        runs = {name: partial(spotter, photo, **settings) for name, settings in RUNS.items()}
        runs[WITHOUT_BOUNDARIES] = partial(without_boundaries, spotter, photo)
        seconds = in_turn(runs, arguments.rounds)
        for name, run in runs.items():
            ratio = median_ratio(seconds[name], seconds[EVERYTHING])
            rows.setdefault(name, []).append((statistics.median(seconds[name]), ratio, looks_taken(spotter, run)))
    print(f"{len(rows[EVERYTHING])} photos, {arguments.threads} threads, {arguments.rounds} rounds each")
    for name, values in rows.items():
        took, ratio, looks = map(statistics.mean, zip(*values, strict=True))
        print(f"{name:24} {1e3 * took:6.0f} ms  {ratio:.2f} times  {looks:.2f} looks")


if __name__ == "__main__":
    main()
