"""`calibrate_scores.py`: what is stored with a spotter says how often its readings are right."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import calibrate_scores
        import robustness
    finally:
        sys.path.remove(str(BENCHMARKS))
    return calibrate_scores, robustness


def test_scores_that_promise_too_much_are_corrected(scripts: tuple[ModuleType, ModuleType]) -> None:
    calibrate, robustness = scripts
    rng = np.random.default_rng(0)
    scores = rng.random(4000)
    readings = [robustness.Reading(score, True, rng.random() < score**3) for score in scores.tolist()]
    knots = calibrate.fit(readings[::2])
    given, reported = np.array(knots).T
    assert (np.diff(given) > 0).all()
    assert (np.diff(reported) > 0).all()
    assert (given[0], given[-1]) == (0, 1)
    corrected = calibrate.apply(knots, readings[1::2])
    assert robustness.calibration_error(readings[1::2]) > 0.2
    assert robustness.calibration_error(corrected) < 0.04
    sure = [one.right for one in corrected if one.score >= 0.9]
    assert np.mean(sure) > 0.88
