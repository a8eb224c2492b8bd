"""Whether a detector makes use of its score map: what it finds with the map, and with zeros in its place.

    python benchmarks/score_map.py --images I/images --annotations I/gt --eval_list I/val.txt \
        --output_dir runs/score_map [--rows sharper weighted] [arguments for every training, such as --max_steps 100]

The bundled detector is judged as it is, and after short trainings from its weights that are to make the map matter:
the same once more, a map that is scaled by a learnt 1 / tau in place of a cosine, five times the auxiliary loss. The
last row has no prompting at all. All trainings see the same crops, by the recipe `fasttcm_dbnet_tiny_finetune.yaml` of
examples/text-detection. `box_threshold` of each row is the one that is best, with the map, on the first photos that are
not in the list; judged are the photos of the list. Rows that were measured are not repeated.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from compare_heads import PHOTO_EDGE, THRESHOLDS, Pairs, judged
from compare_spotters import best_threshold, found_words, photos_to_choose_by
from running import photos_of_training, run_logged, training_parser
from transformers import pipeline

from transformers_tcm import TextDetectionPipeline
from transformers_tcm.data.loaders import load_icdar2015

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "text-detection"
BUNDLED = "fasttcm-dbnet-tiny"
# What each row is called, and the settings of those that are trained.
ROWS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "bundled": ("as it is", None),
    "longer": ("trained on", {}),
    "sharper": ("map scaled by a learnt 1 / tau", {"learnable_logit_scale": True}),
    "weighted": ("auxiliary loss times 5", {"score_map_loss_weight": 5.0}),
    "none": ("without prompting", {"prompting": "none", "fused": False}),
}
# Photos that thresholds are chosen with.
CHOICE = 40


def training_command(row: str, options: argparse.Namespace, further: Sequence[str]) -> list[str]:
    """The training of a row, in its folder."""
    alone = ["--do_eval", "false", "--eval_strategy", "no", "--train_weights", "1.0"]
    model = ["--model_name_or_path", BUNDLED, "--output_dir", str(options.output_dir / row)]
    settings = ["--config_overrides", json.dumps(ROWS[row][1])]
    recipe = str(EXAMPLE / "recipes" / "fasttcm_dbnet_tiny_finetune.yaml")
    return [
        *(sys.executable, str(EXAMPLE / "run_text_detection.py"), recipe),
        *(model + photos_of_training(options) + alone + settings + list(further)),
    ]


def without_map(_module: torch.nn.Module, _inputs: Any, outputs: Any) -> Any:
    """A hook for `TCMModel` that makes the score map zero."""
    outputs.score_map = torch.zeros_like(outputs.score_map)
    return outputs


def measure(detector: TextDetectionPipeline, options: argparse.Namespace) -> dict[str, float]:
    """Hmean with the map, and without it where there is one."""
    size = {"longest_edge": PHOTO_EDGE}

    def found(rows: Any) -> Pairs:
        """What is found whatever the score."""
        return found_words(detector, rows, box_threshold=THRESHOLDS[0], size=size)

    threshold = best_threshold(found(photos_to_choose_by(options, CHOICE)))
    photos = load_icdar2015(options.images, options.annotations, include=options.eval_list)
    figures = {"box_threshold": threshold, "hmean": judged(found(photos), threshold).hmean}
    if detector.model.config.prompting != "none":
        hook = detector.model.model.register_forward_hook(without_map)
        figures["without_map"] = judged(found(photos), threshold).hmean
        hook.remove()
    return figures


def table(measured: dict[str, dict[str, float]]) -> str:
    """The figures in Markdown."""
    lines = ["| detector | hmean | with zeros for the score map | `box_threshold` |", "| --- | --- | --- | --- |"]
    for row, figures in measured.items():
        zeros = f"{figures['without_map']:.3f}" if "without_map" in figures else ""
        lines.append(f"| {ROWS[row][0]} | {figures['hmean']:.3f} | {zeros} | {figures['box_threshold']:g} |")
    return "\n".join(lines)


def main() -> None:
    parser = training_parser(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options, further = parser.parse_known_args()
    torch.set_num_threads(1)
    measured = {}
    for row in options.rows:
        report = options.output_dir / f"{row}.json"
        if not report.is_file():
            trained = ROWS[row][1] is not None
            if trained:
                log = options.output_dir / row / "log.txt"
                run_logged(training_command(row, options, further), log, 1, f"the training of {row}")
            name = str(options.output_dir / row) if trained else BUNDLED
            figures = measure(pipeline("text-detection", model=name, dtype=torch.float32), options)
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(figures, indent=1), encoding="utf-8")
        measured[row] = json.loads(report.read_text(encoding="utf-8"))
    print(table(measured))


if __name__ == "__main__":
    main()
