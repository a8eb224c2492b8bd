"""How likely readings are right, by their scores, those of their detections and their lengths, stored with a spotter.

    python benchmarks/robustness.py --set validation_set --model my_spotter --output robustness.json \
        --settings '{"box_threshold": 0.5, "text_threshold": 0}'
    python benchmarks/calibrate_scores.py --set validation_set --report robustness.json --model my_spotter

The readings of `robustness.py` on every other picture of the validation set fit a logistic regression of being right
(`ScoreCalibration`), and those on the other half say what it is worth. The result is `score_calibration` in the
folder's `preprocessor_config.json`. Beside it stands what each `text_threshold` would report of the other half; one is
chosen with `--text-threshold`. Run `robustness.py` with low thresholds, as above: what it leaves out can't be judged. A
spotter that is calibrated already has to be measured without, or it is calibrated twice: this refuses it.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from robustness import SURE, Outcome, Reading, calibration_error, judge, load_set

from transformers_tcm import TCMImageProcessor, TextInstances
from transformers_tcm.models.tcm.score_calibration import ScoreCalibration, evidence

THRESHOLDS = (0.0, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.35, 0.4, 0.5)


def found_in(report: Path, folder: Path) -> list[tuple[Outcome, TextInstances]]:
    """What `robustness.py` found, judged anew, in the order of the set."""
    (detections,) = json.loads(report.read_text(encoding="utf-8"))["detections"].values()
    found = {name: TextInstances.from_json(entry) for name, entry in detections.items()}
    pictures = [picture for picture in load_set(folder) if picture.path.name in found]
    return [(judge(picture, found[picture.path.name]), found[picture.path.name]) for picture in pictures]


def scores_and_lengths(found: TextInstances) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of a `ScoreCalibration` for what was found in a picture."""
    lengths = np.array([len(text or "") for text in found.texts or []])
    return np.asarray(found.text_scores, np.float64), np.asarray(found.scores, np.float64), lengths


def fit(inputs: np.ndarray, right: np.ndarray) -> ScoreCalibration:
    """The most likely calibration.

    Args:
        inputs: (N, 3), the `evidence` of N readings.
        right: (N,) bool, whether they are.
    """
    from scipy.optimize import minimize

    signs = np.where(right, -1.0, 1.0)

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, signs * (weights[0] + inputs @ weights[1:])).mean())

    bias, text_score, score, length = minimize(loss, np.zeros(4)).x.round(3).tolist()
    return ScoreCalibration(bias, text_score=text_score, score=score, length=length)


def calibrated(
    found: list[tuple[Outcome, TextInstances]], calibration: ScoreCalibration, text_threshold: float = 0.0
) -> list[Outcome]:
    """Outcomes with the scores that would be reported, judged by what would be."""
    outcomes = []
    for outcome, instances in found:
        reported = replace(instances, text_scores=calibration(*scores_and_lengths(instances)))
        outcomes.append(judge(outcome.picture, reported.select(np.asarray(reported.text_scores) >= text_threshold)))
    return outcomes


def readings_of(outcomes: list[Outcome]) -> list[Reading]:
    """Of all pictures."""
    return [reading for outcome in outcomes for reading in outcome.readings]


def describe(name: str, readings: list[Reading]) -> str:
    """A line on how far scores can be trusted."""
    sure = [reading.right for reading in readings if reading.score >= SURE]
    share = f"{np.mean(sure):.3f}" if sure else "none"
    return (
        f"{name}: {len(readings)} readings, {len(sure)} of {SURE} or more, of these right {share}, "
        f"expected calibration error {calibration_error(readings):.3f}"
    )


def reported_at(outcomes: list[Outcome]) -> str:
    """What a threshold leaves: shares of the words, false ones a picture."""
    words = [word for outcome in outcomes for word in outcome.words]
    found, read = (sum(getattr(word, name) for word in words) / len(words) for name in ("found", "read"))
    false = sum(not reading.on_word for reading in readings_of(outcomes)) / len(outcomes)
    return f"found {found:.3f}, read {read:.3f}, false words a picture {false:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, help="folder that make_validation_set.py has written")
    parser.add_argument("--report", type=Path, required=True, help="JSON file of robustness.py, of this model alone")
    parser.add_argument("--model", type=Path, required=True, help="folder of the spotter, which is changed")
    parser.add_argument("--text-threshold", type=float, help="to be stored as well [default: what is stored]")
    arguments = parser.parse_args()
    processor = TCMImageProcessor.from_pretrained(arguments.model)
    if processor.score_calibration is not None:
        raise SystemExit("error: the spotter is calibrated already; take `score_calibration` out and measure it again")
    found = found_in(arguments.report, arguments.set)
    fitted, judged = found[::2], found[1::2]
    inputs = [
        evidence(*scores_and_lengths(instances))[[reading.place for reading in outcome.readings]]
        for outcome, instances in fitted
    ]
    right = np.array([reading.right for reading in readings_of([outcome for outcome, _ in fitted])])
    calibration = fit(np.concatenate(inputs), right)
    print(calibration)
    print(describe("as given", readings_of([outcome for outcome, _ in judged])))
    for threshold in THRESHOLDS:
        outcomes = calibrated(judged, calibration, threshold)
        print(describe(f"from {threshold}", readings_of(outcomes)), reported_at(outcomes), sep=", ")
    processor.score_calibration = asdict(calibration)
    if arguments.text_threshold is not None:
        processor.text_threshold = arguments.text_threshold
    processor.save_pretrained(arguments.model)


if __name__ == "__main__":
    main()
