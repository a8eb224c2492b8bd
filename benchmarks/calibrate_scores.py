"""How often readings of each score are right, stored with a spotter, so that its `text_score` says so.

    python benchmarks/robustness.py --set validation_set --model my_spotter --output robustness.json
    python benchmarks/calibrate_scores.py --set validation_set --report robustness.json --model my_spotter

The readings of `robustness.py` on every other picture of the validation set fit an isotonic regression (Zadrozny and
Elkan, KDD 2002) of being right on the score, and those on the other half say what it is worth. The result is
`score_calibration` in the folder's `preprocessor_config.json`, and `text_threshold` there becomes the reported score
of what it let through before. A spotter that is calibrated already has to be measured without, or it is calibrated
twice: this refuses it.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from robustness import SURE, Outcome, Reading, calibration_error, judge, load_set

from transformers_tcm import TCMImageProcessor, TextInstances

# Steps of the isotonic regression that hold fewer readings are joined.
FEWEST = 40
# What keeps the knots rising where the regression is level.
STEP = 1e-3


def outcomes_of(report: Path, folder: Path) -> list[Outcome]:
    """What `robustness.py` found, judged anew, in the order of the set."""
    (detections,) = json.loads(report.read_text(encoding="utf-8"))["detections"].values()
    pictures = [picture for picture in load_set(folder) if picture.path.name in detections]
    return [judge(picture, TextInstances.from_json(detections[picture.path.name])) for picture in pictures]


def fit(readings: list[Reading]) -> list[list[float]]:
    """Knots [given, reported] of a rising line from 0 to 1."""
    from scipy.optimize import isotonic_regression

    ordered = sorted(readings, key=lambda reading: reading.score)
    bins = np.array_split(np.arange(len(ordered)), max(len(ordered) // FEWEST, 1))
    given = np.array([np.mean([ordered[i].score for i in chosen]) for chosen in bins])
    right = np.array([np.mean([ordered[i].right for i in chosen]) for chosen in bins])
    reported = isotonic_regression(right, weights=[len(chosen) for chosen in bins]).x
    knots = [[0.0, 0.0]]
    for x, y in zip(given.tolist(), reported.tolist(), strict=True):
        if x > knots[-1][0] + STEP and x < 1 - STEP:
            knots.append([round(x, 4), round(min(max(y, knots[-1][1] + STEP), 1 - STEP), 4)])
    return [*knots, [1.0, round(max(knots[-1][1] + STEP, min(reported[-1], 1.0)), 4)]]


def apply(knots: list[list[float]], readings: list[Reading]) -> list[Reading]:
    """Readings with the scores that would be reported."""
    given, reported = zip(*knots, strict=True)
    return [Reading(float(np.interp(one.score, given, reported)), one.on_word, one.right) for one in readings]


def describe(name: str, readings: list[Reading]) -> str:
    """A line on how far scores can be trusted."""
    sure = [reading.right for reading in readings if reading.score >= SURE]
    share = f"{np.mean(sure):.3f}" if sure else "none"
    return (
        f"{name}: {len(readings)} readings, {len(sure)} of {SURE} or more, of these right {share}, "
        f"expected calibration error {calibration_error(readings):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder that make_validation_set.py has written")
    parser.add_argument("--report", type=Path, required=True, help="JSON file of robustness.py, of this model alone")
    parser.add_argument("--model", type=Path, required=True, help="folder of the spotter, which is changed")
    arguments = parser.parse_args()
    processor = TCMImageProcessor.from_pretrained(arguments.model)
    if processor.score_calibration is not None:
        raise SystemExit("error: the spotter is calibrated already; take `score_calibration` out and measure it again")
    outcomes = outcomes_of(arguments.report, arguments.set)
    fitted, judged = ([reading for outcome in outcomes[start::2] for reading in outcome.readings] for start in (0, 1))
    knots = fit(fitted)
    print(describe("as given", judged))
    print(describe("as reported", apply(knots, judged)))
    threshold = processor.text_threshold or 0.0
    processor.score_calibration = knots
    processor.text_threshold = round(float(np.interp(threshold, *zip(*knots, strict=True))), 4)
    processor.save_pretrained(arguments.model)


if __name__ == "__main__":
    main()
