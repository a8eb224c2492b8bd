"""How time and memory grow with pixels, words and classes: curves of the bundled models, as a table and an SVG.

    python benchmarks/growth.py [--edges 320 640 960 1280 1600 1920] [--words 0 10 50 100 200] [--classes 1 15 50 100]
                                [--rounds 5] [--threads 2] [--output build/growth]

Pixels: the bundled detector on a blank square of that side, its network alone. Words: the bundled spotter on a page
with so many printed words, of the same size for all; the whole pipeline with one look. Classes: a new tiny detector of
oriented objects with so many class prompts at 512 x 512, prompts fused. The points of a curve take turns; memory is the
most that a process of its own has had in one call, its program and weights included.
"""

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from reading_speed import page
from timing import in_turn, peak_megabytes

CURVES = {"pixels": "side in pixels", "words": "words on the page", "classes": "classes"}
CLASSES_SIDE = 512
Run = Callable[[], object]


def pixels(edge: int) -> Run:
    """The network of the bundled detector on a square."""
    from transformers_tcm import AutoModelForTextDetection

    model = AutoModelForTextDetection.from_pretrained("fasttcm-dbnet-tiny").optimize_for_inference()
    image = torch.zeros(1, 3, edge, edge, dtype=model.dtype)
    return lambda: model(image)


def words(count: int, most: int) -> Run:
    """The pipeline of the bundled spotter on a page for the `most` words, of which there are `count`."""
    from PIL import ImageDraw
    from transformers import pipeline

    spotter = pipeline("text-spotting", model="fasttcm-spotter-tiny", device="cpu", coarse_edge=0)
    paper, boxes, _ = page(most)
    for box in boxes[count:]:
        ImageDraw.Draw(paper).rectangle(box, fill="white")
    return lambda: spotter(paper)


def classes(count: int) -> Run:
    """A new detector of oriented objects with so many class prompts."""
    from transformers_tcm import TCMConfig, TCMForOrientedObjectDetection

    labels = {index: f"class {index}" for index in range(count)}
    config = TCMConfig.from_preset("tiny", head_type="rotated_fcos", id2label=labels)
    model = TCMForOrientedObjectDetection(config).eval().fuse_text_embeddings().optimize_for_inference()
    image = torch.zeros(1, 3, CLASSES_SIDE, CLASSES_SIDE, dtype=model.dtype)
    return lambda: model(image)


def memory(make: Callable[[], Run], threads: int) -> float:
    """Megabytes that a new process has had at most."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        make()()
    return peak_megabytes()


def curve(makes: dict[int, Callable[[], Run]], rounds: int, threads: int) -> list[dict[str, float]]:
    """Milliseconds and megabytes of each point."""
    # A new process each: what one has had once counts for all that follows in it.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        megabytes = [pool.apply(memory, (make, threads)) for make in makes.values()]
    seconds = in_turn({at: make() for at, make in makes.items()}, rounds)
    return [
        {"at": at, "milliseconds": 1000 * statistics.median(times), "megabytes": peak}
        for (at, times), peak in zip(seconds.items(), megabytes, strict=True)
    ]


def table(curves: dict[str, list[dict[str, float]]]) -> str:
    """The points in Markdown."""
    lines = ["| what grows | to | milliseconds | memory, MB |", "| --- | --- | --- | --- |"]
    for name, points in curves.items():
        for point in points:
            lines.append(f"| {name} | {point['at']:g} | {point['milliseconds']:.0f} | {point['megabytes']:.0f} |")
    return "\n".join(lines) + "\n"


def drawing(curves: dict[str, list[dict[str, float]]]) -> str:
    """The milliseconds of each curve over what grows, side by side, as SVG."""
    width, height, gap = 220, 150, 70
    parts = []
    for index, (name, points) in enumerate(curves.items()):
        left, top = gap + index * (width + gap), 20
        most = max(point["at"] for point in points), max(point["milliseconds"] for point in points)
        places = [
            (left + width * point["at"] / most[0], top + height * (1 - point["milliseconds"] / most[1]))
            for point in points
        ]
        parts.append(f'<path d="M{left},{top} v{height} h{width}" fill="none" stroke="#555"/>')
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#4477aa" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#4477aa"/>' for x, y in places]
        parts.append(f'<text x="{left - 6}" y="{top + 6}" text-anchor="end">{most[1]:.0f} ms</text>')
        parts.append(f'<text x="{left + width}" y="{top + height + 16}" text-anchor="end">{most[0]:g}</text>')
        parts.append(f'<text x="{left}" y="{top + height + 16}">{CURVES[name]}</text>')
    size = f'viewBox="0 0 {gap + len(curves) * (width + gap)} 200" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>\n'


def curves_of(arguments: argparse.Namespace) -> dict[str, dict[int, Callable[[], Run]]]:
    """What is measured: of each curve, how each point is made."""
    most = max(arguments.words)
    return {
        "pixels": {edge: partial(pixels, edge) for edge in arguments.edges},
        "words": {count: partial(words, count, most) for count in arguments.words},
        "classes": {count: partial(classes, count) for count in arguments.classes},
    }


@torch.inference_mode()
def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=[320, 640, 960, 1280, 1600, 1920])
    parser.add_argument("--words", type=int, nargs="+", default=[0, 10, 50, 100, 200])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 15, 50, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("build/growth"), help="default: %(default)s")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    measured: dict[str, Any] = {}
    for name, makes in curves_of(arguments).items():
        measured[name] = curve(makes, arguments.rounds, arguments.threads)
        print(table({name: measured[name]}), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "growth.json").write_text(json.dumps(measured, indent=1), encoding="utf-8")
    (arguments.output / "growth.svg").write_text(drawing(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
