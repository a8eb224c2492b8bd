"""How likely a reading is right: what speaks for it, and which score a reading needs for a probability."""

import numpy as np
import pytest

from transformers_tcm.models.tcm.score_calibration import ScoreCalibration

CALIBRATION = ScoreCalibration(bias=-3.0, text_score=0.5, score=2.0, length=1.0)


def test_everything_speaks_for_a_reading() -> None:
    one = CALIBRATION(np.array([0.5]), np.array([0.5]), np.array([1])).item()
    assert one == pytest.approx(1 / (1 + np.exp(3)))
    more = CALIBRATION(np.array([0.9, 0.5, 0.5]), np.array([0.5, 0.9, 0.5]), np.array([1, 1, 8]))
    assert (more > one).all()
    certain = CALIBRATION(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0, 32]))
    assert np.isfinite(certain).all()
    assert CALIBRATION(*(np.zeros(0) for _ in range(3))).shape == (0,)


@pytest.mark.parametrize("probability", [0.01, 0.22, 0.9])
def test_least_scores_give_the_probability(probability: float) -> None:
    scores, lengths = np.array([0.5, 0.6, 0.8]), np.array([2, 5, 12])
    least = CALIBRATION.least_text_scores(probability, scores, lengths)
    inner = (least > 1e-3) & (least < 1 - 1e-3)
    np.testing.assert_allclose(CALIBRATION(least, scores, lengths)[inner], probability)
    assert inner.any()


def test_least_scores_of_certainty() -> None:
    everything, nothing = (CALIBRATION.least_text_scores(p, np.array([0.5]), np.array([3])) for p in (0.0, 1.0))
    assert (everything, nothing) == (0, 1)
