"""The heads side by side: same encoder, same data, same time, one seed.

    python benchmarks/compare_heads.py --images I/images --annotations I/gt --eval_list I/val.txt \
        --backgrounds backgrounds --output_dir runs/heads [--seconds 1200] [--heads dbnet pan] [training arguments]

Renders scenes with curved words: some to train on, 100 to choose each head's `box_threshold` with, and 200 to judge
by, the last two on backgrounds that the first leave out. Every head starts new on the encoder of `--encoder` and is
trained on photos and scenes by `examples/text-detection/recipes/compare_heads.yaml` for so many seconds. Writes
`table.md` and `curved.jpg`, what the heads find on the first scenes, and prints the table. Heads that have been
measured are not repeated; one that was broken off starts anew, since all get the same time.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from running import photos_of_training, run_logged, training_parser
from transformers import pipeline

from transformers_tcm import (
    AutoModelForTextDetection,
    TCMConfig,
    TCMForTextDetection,
    TCMImageProcessor,
    TextInstances,
    load_image,
)
from transformers_tcm.data.loaders import load_icdar2015, load_jsonl, row_to_instances
from transformers_tcm.data.rendering.backgrounds import split_backgrounds
from transformers_tcm.data.rendering.block import SceneStyle
from transformers_tcm.data.rendering.writer import contact_sheet, draw_instances, write_scenes
from transformers_tcm.data.synthetic import SceneTextRenderer, find_fonts
from transformers_tcm.evaluation import BestOfThresholdsIoU, DetectionIoU, EvaluationResult
from transformers_tcm.models.tcm.heads import head_class

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "text-detection"
HEADS = ("dbnet", "pan", "fcenet", "abcnet")
# Mostly single lines, bent, of letters that a short training can learn to outline.
CURVED = SceneStyle(bend=0.8, median_height=28.0, min_height=10.0)
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 19))
# Longest edge of photos, as in the recipe, and of scenes, which are judged at their own size.
PHOTO_EDGE, SCENE_EDGE = 1280, 640
# Scenes: to train on, to choose thresholds with, to judge by; and the first seed of each.
SCENES = {"training": (3000, 0), "choice": (100, 100_000), "test": (200, 200_000)}

Pairs = list[tuple[TextInstances, TextInstances]]


def render_scenes(options: argparse.Namespace) -> None:
    """The three sets of scenes, those that are not there yet."""
    training, held_out = split_backgrounds(options.backgrounds)
    for name, (count, seed) in SCENES.items():
        folder = options.output_dir / "scenes" / name
        if not (folder / "contact_sheet.jpg").is_file():  # written last
            backgrounds = training if name == "training" else held_out
            renderer = SceneTextRenderer(backgrounds, find_fonts(options.fonts), style=CURVED)
            write_scenes(renderer, folder, options.scenes or count, seed)


def write_start(head: str, encoder: str, folder: Path, prompting: str | None = None) -> None:
    """A detector with this head, new, on the image encoder and the prompting of another one.

    With another `prompting` than that model's the parts both have are taken over.
    """
    source = AutoModelForTextDetection.from_pretrained(encoder, dtype="float32")
    prompting = prompting or source.config.prompting
    fused = source.config.fused and prompting != "none"
    settings = source.config.to_dict() | {"prompting": prompting, "fused": fused}
    settings |= {"head_type": head, "head_config": dict(head_class(head).presets["tiny"]), "recognizer": None}
    torch.manual_seed(0)
    model = TCMForTextDetection(TCMConfig.from_dict(settings))
    model.model.load_state_dict(source.model.state_dict(), strict=prompting == source.config.prompting)
    model.save_pretrained(folder)
    processor = TCMImageProcessor.from_pretrained(encoder, size={"longest_edge": PHOTO_EDGE}).for_model(model.config)
    processor.save_pretrained(folder)


def training_command(folder: Path, options: argparse.Namespace, further: Sequence[str]) -> list[str]:
    """The training of a head, from `start` in its folder."""
    scenes = ["--train_jsonl", str(options.output_dir / "scenes" / "training" / "annotations.jsonl")]
    limit = ["--max_seconds", str(options.seconds)] if options.seconds else []
    script = [str(EXAMPLE / "run_text_detection.py"), str(EXAMPLE / "recipes" / "compare_heads.yaml")]
    model = ["--model_name_or_path", str(folder / "start"), "--output_dir", str(folder / "model")]
    return [sys.executable, *script, *model, *photos_of_training(options), *scenes, *limit, *further]


def train(head: str, options: argparse.Namespace, further: Sequence[str]) -> None:
    """Train a head in its folder; what it prints goes to `log.txt` there."""
    folder = options.output_dir / head
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was broken off
    write_start(head, options.encoder, folder / "start")
    run_logged(
        training_command(folder, options, further), folder / "log.txt", options.threads, f"the training of {head}"
    )


def detections(folder: Path, rows: Any, edge: int, polygon: bool) -> Iterator[tuple[TextInstances, float]]:
    """What a model finds in photos whatever the score, and the milliseconds of each."""
    size = {"longest_edge": edge}
    detector = pipeline("text-detection", model=str(folder), dtype=torch.float32)
    for row in rows:
        image = load_image(row["image"])
        start = time.perf_counter()
        found = detector(image, size=size, box_threshold=THRESHOLDS[0], polygon=polygon)
        seconds = time.perf_counter() - start
        instances = TextInstances(
            [np.float32(word["polygon"]) for word in found], scores=np.float32([word["score"] for word in found])
        )
        yield instances, 1000 * seconds


def judged(pairs: Pairs, threshold: float) -> EvaluationResult:
    """Precision, recall and hmean of detections at a threshold."""
    metric = DetectionIoU()
    for truth, found in pairs:
        assert found.scores is not None
        metric.update(truth, found.select(found.scores >= np.float32(threshold)))
    return metric.compute()


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a trained head."""
    scenes = options.output_dir / "scenes"
    sets = {name: load_jsonl(scenes / name / "annotations.jsonl") for name in ("choice", "test")}
    photos = load_icdar2015(options.images, options.annotations, include=options.eval_list)
    found: dict[str, Pairs] = {}
    milliseconds: list[float] = []
    for name, rows, edge in (*((name, rows, SCENE_EDGE) for name, rows in sets.items()), ("val", photos, PHOTO_EDGE)):
        found[name] = []
        for row, (instances, took) in zip(rows, detections(folder, rows, edge, name != "val"), strict=True):
            found[name].append((row_to_instances(row), instances))
            milliseconds += [took] * (name == "val")
    choice = BestOfThresholdsIoU(THRESHOLDS, floor=0.0)
    for pair in found["choice"]:
        choice.update(*pair)
    threshold = choice.compute().threshold
    val, curved = judged(found["val"], threshold), judged(found["test"], threshold)
    model = AutoModelForTextDetection.from_pretrained(folder)
    return {
        "val_precision": val.precision,
        "val_recall": val.recall,
        "val_hmean": val.hmean,
        "curved_hmean": curved.hmean,
        "milliseconds": statistics.median(milliseconds),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "box_threshold": threshold,
    }


def table(measured: dict[str, dict[str, float]]) -> str:
    """The figures in Markdown."""
    lines = [
        "| head | precision | recall | hmean, val.txt | hmean, curved words | ms | parameters | `box_threshold` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for head, figures in measured.items():
        cells = [f"{figures[name]:.3f}" for name in ("val_precision", "val_recall", "val_hmean", "curved_hmean")]
        cells += [f"{figures['milliseconds']:.0f}", f"{figures['parameters'] / 1e6:.2f} M"]
        lines.append(f"| {head_class(head).display_name} | {' | '.join(cells)} | {figures['box_threshold']:g} |")
    return "\n".join(lines)


def draw(measured: dict[str, dict[str, float]], folder: Path, scenes: int = 4) -> None:
    """What each head, row by row, finds on the first scenes."""
    rows = load_jsonl(folder / "scenes" / "test" / "annotations.jsonl")
    rows = rows.select(range(min(scenes, len(rows))))
    pictures = []
    for head, figures in measured.items():
        for row, (found, _) in zip(rows, detections(folder / head / "model", rows, SCENE_EDGE, True), strict=True):
            assert found.scores is not None
            kept = found.select(found.scores >= np.float32(figures["box_threshold"]))
            pictures.append(draw_instances(np.asarray(load_image(row["image"])), kept))
    cv2.imwrite(str(folder / "curved.jpg"), contact_sheet(pictures, columns=len(rows))[..., ::-1])


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--backgrounds", type=Path, required=True, help="folder of photographs without text")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="folder searched for fonts")
    parser.add_argument("--encoder", default="fasttcm-dbnet-tiny", help="detector whose encoder all heads start with")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--seconds", type=float, default=1200, help="of a training; 0: the steps of the recipe")
    parser.add_argument("--threads", type=int, default=1, help="of trainings and measurements")
    parser.add_argument("--scenes", type=int, help="in each set, in place of the usual numbers")
    options, further = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    render_scenes(options)
    measured: dict[str, dict[str, float]] = {}
    for head in options.heads:
        figures = options.output_dir / head / "figures.json"
        if not figures.is_file():
            train(head, options, further)
            figures.write_text(json.dumps(measure(options.output_dir / head / "model", options), indent=2))
        measured[head] = json.loads(figures.read_text())
    (options.output_dir / "table.md").write_text(table(measured) + "\n", encoding="utf-8")
    draw(measured, options.output_dir)
    print(table(measured))


if __name__ == "__main__":
    main()
