"""GPU hours of the papers' trainings, estimated: operations of a crop, counted, at the rate of a measured forward pass.

    python benchmarks/training_hours.py --milliseconds 31.4 --images 8 --output scripts/training_hours.json

`--milliseconds` is what the unfused `fasttcm-dbnet-icdar2015` takes for `--images` images of 736 x 1280 on the GPU in
question (`benchmarks/detection_speed.py` times it). A training step is taken for three forward passes at that rate, on
crops of the recipe's size; losses, data and a recogniser are not counted, so that the true figure is higher. Rows of
DOTA are given for 10,000 patches.
"""

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

import transformers_tcm
from transformers_tcm import TCMConfig
from transformers_tcm.models.tcm.modeling_tcm import TCMDetector

ROWS = Path(__file__).resolve().parents[1] / "hub_configs"
REFERENCE, REFERENCE_SIZE = "fasttcm-dbnet-icdar2015", (736, 1280)
# Forward, gradients of activations, gradients of weights.
PASSES = 3
# Of DOTA, whose number depends on how its images are split.
PATCHES, PATCH_SIDE = 10_000, 1024


@cache
def operations(row: str, size: tuple[int, int]) -> float:
    """Of a row's detector, for one image of `size` (height, width)."""
    config = TCMConfig.from_pretrained(ROWS / row)
    counter = FlopCounterMode(display=False)
    with torch.device("meta"):
        model = getattr(transformers_tcm, config.architectures[0])(config).eval()
        with counter:
            TCMDetector.forward(model, torch.empty(1, 3, *size))  # of a spotter, what comes before reading
    return float(counter.get_total_flops())


def estimates(rows: list[str], rate: float) -> Iterator[tuple[str, str, float]]:
    """Row, stage and hours of each training at `rate` operations a second."""
    for row in rows:
        for path in sorted((ROWS / row).glob("*.yaml"), reverse=True):  # pre-training comes first
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
            side = recipe.get("crop_size", PATCH_SIDE)
            yield row, path.stem, PASSES * crops(recipe) * operations(row, (side, side)) / rate / 3600


def crops(recipe: dict[str, Any]) -> int:
    """That a recipe trains on."""
    if "epochs" in recipe:
        return int(recipe["epochs"]) * PATCHES
    batch = recipe["per_device_train_batch_size"] * recipe["gradient_accumulation_steps"]
    return int(recipe["max_steps"] * batch)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--milliseconds", type=float, required=True, help="that the reference takes for --images images"
    )
    parser.add_argument("--images", type=int, default=8, help="of the measured batch (default: 8)")
    parser.add_argument("--rows", nargs="+", default=sorted({path.parent.name for path in ROWS.glob("*/*.yaml")}))
    parser.add_argument("--output", type=Path, help="JSON to write, from which docs/reproduce.md is made")
    arguments = parser.parse_args()
    rate = arguments.images * operations(REFERENCE, REFERENCE_SIZE) / (arguments.milliseconds / 1000)
    print(f"{rate / 1e12:.0f} TFLOP/s")
    hours: dict[str, dict[str, float]] = {}
    for row, stage, value in estimates(arguments.rows, rate):
        print(f"{row}, {stage}: {value:.1f} hours", flush=True)
        hours.setdefault(row, {})[stage] = round(value, 1)
    if arguments.output:
        arguments.output.write_text(json.dumps(hours, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
