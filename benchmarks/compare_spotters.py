"""TESTR and DeepSolo beside a spotter with a recogniser: same image encoder, same photos, same number of steps.

    python benchmarks/compare_spotters.py --images I/images --annotations I/gt --eval_list I/val.txt \
        --output_dir runs/spotters [--rows testr deepsolo abcnet] [arguments for every training, such as further photos]

Every row starts on the image encoder of the bundled spotter with a new head and is trained by its recipe of
examples/text-spotting, TESTR once more without prompting (`none`, the ablation of the FastTCM paper); ABCNet by that of
TESTR, with the recogniser of the bundled spotter, which has learnt to read. The bundled spotter itself, whose head is
DBNet's, is the last row, as it is. `box_threshold` of each row is the one that is best for detection on the first
photos of the folder that are not in the list; judged are the photos of the list. Trainings that are complete are not
repeated. Milliseconds are the processor's, on one thread, on photos of the list, the rows in turn.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from compare_heads import THRESHOLDS, Pairs, judged
from running import photos_of_training, run_logged, training_parser
from transformers import pipeline

from transformers_tcm import TextDetectionPipeline, TextInstances, TextSpottingPipeline, load_image
from transformers_tcm.data.loaders import load_icdar2015, row_to_instances
from transformers_tcm.evaluation import BestOfThresholdsIoU, EndToEnd

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "text-spotting"
BUNDLED = "fasttcm-spotter-tiny"
# The names of the rows, and the recipe and the settings of those that are trained.
ROWS = {
    "testr": "TESTR",
    "testr-none": "TESTR, `none`",
    "deepsolo": "DeepSolo",
    "abcnet": "ABCNet, recogniser",
    BUNDLED: "DBNet, the bundled spotter",
}
TESTR_RECIPE = EXAMPLE / "recipes/fasttcm_testr_tiny.yaml"
TESTR_CONFIG = yaml.safe_load(TESTR_RECIPE.read_text(encoding="utf-8"))["config_overrides"]
TRAINED: dict[str, list[str]] = {
    "testr": [str(TESTR_RECIPE)],
    "testr-none": [str(TESTR_RECIPE), "--config_overrides", json.dumps({**TESTR_CONFIG, "prompting": "none"})],
    "deepsolo": [str(EXAMPLE / "recipes/fasttcm_deepsolo_tiny.yaml")],
    "abcnet": [
        str(TESTR_RECIPE),
        # As small a head as the other two.
        *("--config_overrides", '{"head_type": "abcnet", "head_config": {"channels": 128, "num_convs": 2}}'),
        *("--processor_overrides", '{"size": {"longest_edge": 1920}}'),
        *("--max_grad_norm", "5.0"),
    ],
}
# Photos that thresholds are chosen with; rows below this hmean of end-to-end reading say nothing about a head.
CHOICE, CONVERGED = 60, 0.3
HEADER = "| head | precision | recall | hmean | end to end | `box_threshold` | parameters | ms a photo |"


def training_command(row: str, options: argparse.Namespace, further: Sequence[str]) -> list[str]:
    """The training of a row, in its folder."""
    output = ["--do_eval", "false", "--output_dir", str(options.output_dir / row)]
    recipe, *settings = TRAINED[row]
    return [
        *(sys.executable, str(EXAMPLE / "run_text_spotting.py"), recipe),
        *(photos_of_training(options) + settings + output + list(further)),
    ]


def found_words(finder: TextDetectionPipeline, rows: Any, **settings: Any) -> Pairs:
    """Labels of photos and what a spotter, or a detector, finds in them."""
    pairs = []
    for row in rows:
        words = finder(load_image(row["image"]), **settings)
        found = TextInstances(
            [np.float32(word["polygon"]) for word in words],
            texts=[word.get("text", "") for word in words],
            scores=np.float32([word["score"] for word in words]),
        )
        pairs.append((row_to_instances(row), found))
    return pairs


def photos_to_choose_by(options: argparse.Namespace, count: int) -> Any:
    """The first photos that are not among those to judge by."""
    every = load_icdar2015(options.images, options.annotations)
    held_out = set(options.eval_list.read_text(encoding="utf-8").split())
    others = [index for index, name in enumerate(every["image_id"]) if name not in held_out]
    return every.select(others[:count])


def best_threshold(pairs: Pairs) -> float:
    """The `box_threshold` with the best hmean of detection."""
    choice = BestOfThresholdsIoU(THRESHOLDS, floor=0.0)
    for pair in pairs:
        choice.update(*pair)
    return float(choice.compute().threshold)


def end_to_end(pairs: Pairs) -> float:
    """Hmean of detections that were also read."""
    metric = EndToEnd()
    for pair in pairs:
        metric.update(*pair)
    return metric.compute().hmean


def measure(spotter: TextSpottingPipeline, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a spotter."""
    # Spelling tells nothing about detection, and takes most of the time where everything is taken for a word.
    choice = {"box_threshold": THRESHOLDS[0], "use_language_model": False}
    threshold = best_threshold(found_words(spotter, photos_to_choose_by(options, CHOICE), **choice))
    photos = load_icdar2015(options.images, options.annotations, include=options.eval_list)
    pairs = found_words(spotter, photos, box_threshold=threshold)
    detection = judged(pairs, threshold)
    return {
        "precision": detection.precision,
        "recall": detection.recall,
        "hmean": detection.hmean,
        "end_to_end": end_to_end(pairs),
        "box_threshold": threshold,
        "parameters": sum(parameter.numel() for parameter in spotter.model.parameters()),
    }


def milliseconds(runs: dict[str, Callable[[Any], object]], photos: Sequence[Any]) -> dict[str, float]:
    """The processor's time of each on a photo, the median; each first warms up on one."""
    spent: dict[str, list[float]] = {row: [] for row in runs}
    for number, photo in enumerate([photos[0], *photos]):
        for row, run in runs.items():
            start = time.process_time()
            run(photo)
            if number:
                spent[row].append(1000 * (time.process_time() - start))
    return {row: statistics.median(values) for row, values in spent.items()}


def table(measured: dict[str, dict[str, float]]) -> str:
    """The figures in Markdown; rows that learned too little are named, not compared."""
    lines = [HEADER, "| --- " * (HEADER.count("|") - 1) + "|"]
    for row, figures in measured.items():
        cells = [f"{figures[name]:.3f}" for name in ("precision", "recall", "hmean", "end_to_end")]
        if figures["end_to_end"] < CONVERGED:
            cells[-1] = f"not converged ({cells[-1]})"
        cells += [f"{figures['box_threshold']:g}", f"{figures['parameters'] / 1e6:.2f} M", f"{figures['ms']:.0f}"]
        lines.append(f"| {' | '.join([ROWS[row], *cells])} |")
    return "\n".join(lines)


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--photos", type=int, default=12, help="of the list, to time on")
    options, further = parser.parse_known_args()
    torch.set_num_threads(1)
    spotters, measured = {}, {}
    for row in options.rows:
        folder = options.output_dir / row
        if row in TRAINED and not (folder / "model.safetensors").is_file():
            run_logged(training_command(row, options, further), folder / "log.txt", 1, f"the training of {row}")
        name = str(folder) if row in TRAINED else row
        spotters[row] = pipeline("text-spotting", model=name, dtype=torch.float32)
        report = options.output_dir / f"{row}.json"
        if not report.is_file():
            report.write_text(json.dumps(measure(spotters[row], options), indent=1), encoding="utf-8")
        measured[row] = json.loads(report.read_text(encoding="utf-8"))
    rows = load_icdar2015(options.images, options.annotations, include=options.eval_list)
    photos = [load_image(row["image"]) for row in rows.select(range(options.photos))]
    runs = {
        row: lambda photo, row=row: spotters[row](photo, box_threshold=measured[row]["box_threshold"])
        for row in options.rows
    }
    for row, spent in milliseconds(runs, photos).items():
        measured[row]["ms"] = spent
    (options.output_dir / "table.md").write_text(table(measured) + "\n", encoding="utf-8")
    print(table(measured))


if __name__ == "__main__":
    main()
