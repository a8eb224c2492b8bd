"""The bundled models in every engine, and RapidOCR if asked for: seconds and accuracy of each on the same photos.

    make bench                                                        # the photo of the examples
    python benchmarks/bench.py --images photos --annotations labels [--include val.txt] [--calibration more_photos]

What is exported stays in `--exports` and is used again. All systems see each photo one after the other, in turning
order, with two threads each; times are medians from the decoded picture to the result, after one photo to warm up, and
each row has its accuracy beside it, see `compare_accuracy.py`. int8 detectors are calibrated on the photos of
`--calibration`, which should not be among those that are measured on.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from compare_accuracy import (
    WORKER,
    System,
    annotated_photos,
    default_environment,
    install_rapidocr,
    measure,
    own_system,
    rapidocr_system,
    report,
    started,
    table,
)

from transformers_tcm import TextInstances, bundled_model_path
from transformers_tcm.images import list_images

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "images"
MODELS = {"text-detection": "fasttcm-dbnet-tiny", "text-spotting": "fasttcm-spotter-tiny"}
ENGINES = ("torch", "onnxruntime", "onnxruntime int8", "openvino", "openvino int8")
# The second one tells what is due to RapidOCR's models, and what to the engine.
RAPIDOCR_ENGINES = ("onnxruntime", "openvino")
PACKAGES = ("torch", "onnxruntime", "openvino", "nncf")
MOST_CALIBRATED = 20


def example_photos() -> list[tuple[Path, TextInstances]]:
    """The photo of the examples with its words."""
    row = json.loads((EXAMPLES / "street.jsonl").read_text(encoding="utf-8"))
    polygons = [np.array(polygon, np.float32) for polygon in row["polygons"]]
    return [(EXAMPLES / "street.jpg", TextInstances(polygons, texts=row["texts"]))]


def exported(task: str, name: str, engine: str, folder: Path, photos: Sequence[Path]) -> Path:
    """The folder of a bundled model for an engine, exported where it is not there yet."""
    from transformers_tcm import AutoModelForTextDetection, AutoModelForTextSpotting, TCMImageProcessor
    from transformers_tcm.export import export_model
    from transformers_tcm.models.tcm.exported_tcm import is_exported

    form = "onnx" if engine.startswith("onnx") else "openvino"
    target = folder / f"{name}-{engine.replace(' ', '-')}"
    if not is_exported(target):
        loader: Any = AutoModelForTextSpotting if task == "text-spotting" else AutoModelForTextDetection
        source = bundled_model_path(name)
        processor = TCMImageProcessor.from_pretrained(source)
        export_model(loader.from_pretrained(source), processor, target, form, calibration=photos)
    return target


def engine_system(task: str, name: str, engine: str, exports: Path, photos: Sequence[Path]) -> System:
    """A bundled model in an engine."""
    if engine == "torch":
        system = own_system(task, bundled_model_path(name))
    else:
        quantised = engine.endswith("int8")
        folder = exported(task, name, engine, exports, photos if quantised else ())
        system = own_system(task, folder, backend=engine.split()[0])
    system.rows = [f"{name}, {engine}"]
    return system


def machine() -> dict[str, Any]:
    """What a figure depends on besides the model."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"machine": platform.machine(), "cores": os.cpu_count(), "load": load, "versions": versions}


def bench(arguments: argparse.Namespace, show: Callable[[str], None] = print) -> dict[str, Any]:
    """Set all systems up, measure them, and print the table."""
    import cv2
    import torch

    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    photos = example_photos()
    if arguments.images is not None:
        photos = annotated_photos(arguments.images, arguments.annotations, arguments.include)
    photos = photos[: arguments.photos]
    calibration = list_images(arguments.calibration)[:MOST_CALIBRATED]
    before = machine()
    systems = [
        engine_system(task, name, engine, arguments.exports, calibration)
        for task, name in MODELS.items()
        if task in arguments.tasks
        for engine in arguments.engines
    ]
    with ExitStack() as stack:
        if arguments.rapidocr:
            python = install_rapidocr(default_environment(), RAPIDOCR_ENGINES)
            for engine in RAPIDOCR_ENGINES:
                command = [python, "-I", WORKER, "--threads", str(arguments.threads), "--engine", engine]
                systems.append(rapidocr_system(stack.enter_context(started(command))))
        rows = report(systems, measure(systems, photos))
    show(table(rows))
    show(f"\n{len(photos)} photos, {arguments.threads} threads, load of the machine before {before['load']}")
    return {"threads": arguments.threads, "photos": len(photos), **before, "rows": rows}


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Detection hmean over seconds as SVG: spotters and RapidOCR as discs, detectors as rings."""
    width, height, left, top, line = 360, 220, 50, 20, 16
    points = sorted(rows, key=lambda row: row["median_seconds"])
    longest = 1.1 * max(row["median_seconds"] for row in points)
    shown = [row["detection"]["hmean"] for row in points]
    low, high = max(0.0, min(shown) - 0.05), min(1.0, max(shown) + 0.05)
    parts = [f'<path d="M{left},{top} v{height} h{width}" fill="none" stroke="#555"/>']
    parts.append(f'<text x="{left + width}" y="{top + height + line}" text-anchor="end">{longest:.1f} s a photo</text>')
    for value in (low, high):
        y = top + height * (high - value) / (high - low)
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value:.2f}</text>')
    for number, (row, value) in enumerate(zip(points, shown, strict=True), start=1):
        x, y = left + width * row["median_seconds"] / longest, top + height * (high - value) / (high - low)
        color = "#cc3311" if row["system"].startswith("RapidOCR") else "#4477aa"
        fill = color if row["end_to_end"] else "none"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" stroke="{color}" fill="{fill}"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y - 4:.1f}">{number}</text>')
        legend = f"{number}: {escape(row['system'])}, {row['median_seconds']:.2f} s, {value:.3f}"
        parts.append(f'<text x="{left + width + 30}" y="{top + number * line}">{legend}</text>')
    size = f'viewBox="0 0 900 {max(top + height + 2 * line, top + (len(points) + 1) * line)}"'
    style = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(parts)}</svg>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photos (default: the photo of the examples)")
    parser.add_argument("--annotations", type=Path, help="folder of gt_NAME.txt, ICDAR-2015 format")
    parser.add_argument("--include", type=Path, help="text file with the names of the photos to take")
    parser.add_argument("--photos", type=int, help="take only as many of them")
    parser.add_argument("--calibration", type=Path, default=EXAMPLES, help="folder of photos to calibrate int8 with")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tasks", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--rapidocr", action="store_true", help="also RapidOCR, in an environment of its own, in two engines"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each system (default: 2)")
    parser.add_argument("--exports", type=Path, default=ROOT / "build" / "bench", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json", help="default: %(default)s")
    arguments = parser.parse_args()
    if (arguments.images is None) != (arguments.annotations is None):
        parser.error("--images and --annotations go together")
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        measured = bench(arguments)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    arguments.output.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    arguments.output.with_suffix(".svg").write_text(plot(measured["rows"]), encoding="utf-8")
    print(f"every photo's figures are in {arguments.output}, accuracy over time is drawn beside it")


if __name__ == "__main__":
    main()
