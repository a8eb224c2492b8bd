"""Charts as SVG: where points and bars stand."""

from xml.etree import ElementTree

import numpy as np
import pytest

from transformers_tcm.evaluation.report.charts import precision_recall_chart, score_histogram
from transformers_tcm.evaluation.score_curve import ScoreCurve

# The field between the axes.
LEFT, RIGHT, TOP, BOTTOM = 58, 468, 12, 290


def curve(precision=(), recall=(), matched=(), unmatched=()) -> ScoreCurve:
    arrays = [np.array(values, dtype=np.float64) for values in (precision, precision, recall, matched, unmatched)]
    return ScoreCurve(*arrays)


def elements(source: str, tag: str, kind: str) -> list[dict]:
    return [one.attrib for one in ElementTree.fromstring(source).iter(tag) if kind in one.get("class", "").split()]


def texts(source: str) -> list[str]:
    return [one.text for one in ElementTree.fromstring(source).iter("text")]


def test_points_of_the_curve_and_of_the_run() -> None:
    source = precision_recall_chart(curve(precision=[1, 0.5], recall=[0, 1]), recall=0.5, precision=0.75)
    (line,) = elements(source, "polyline", "curve")
    assert line["points"] == f"{LEFT:.1f},{TOP:.1f} {RIGHT:.1f},{(TOP + BOTTOM) / 2:.1f}"
    (point,) = elements(source, "circle", "point")
    assert float(point["cx"]) == (LEFT + RIGHT) / 2
    assert float(point["cy"]) == pytest.approx(TOP + (BOTTOM - TOP) / 4)
    assert "recall 0.500 and precision 0.750" in ElementTree.fromstring(source).get("aria-label")


def test_bars_are_stacked_and_the_threshold_is_between_them() -> None:
    source = score_histogram(curve(matched=[0.81, 0.82, 0.61], unmatched=[0.81, 0.51, 0.52, 1.0]), threshold=0.6)
    # From 0.5 to 1: a bin of 0.025 is a twentieth of the field. The highest bar has three detections of three.
    step, unit = (RIGHT - LEFT) / 20, (BOTTOM - TOP) / 3
    matched, unmatched = elements(source, "rect", "matched"), elements(source, "rect", "false")
    assert [float(bar["x"]) for bar in matched] == pytest.approx([LEFT + 4 * step + 1, LEFT + 12 * step + 1], abs=0.02)
    assert [float(bar["height"]) for bar in matched] == pytest.approx([unit, 2 * unit], abs=0.02)
    assert [float(bar["height"]) for bar in unmatched] == pytest.approx([2 * unit, unit, unit], abs=0.02)
    assert float(unmatched[1]["y"]) == pytest.approx(TOP, abs=0.02), "on top of the two matched ones"
    assert float(unmatched[2]["x"]) > RIGHT - step, "a score of 1 belongs to the last bin"
    (line,) = elements(source, "line", "threshold")
    assert float(line["x1"]) == float(line["x2"]) == pytest.approx(LEFT + 4 * step, abs=0.02)


@pytest.mark.parametrize(("count", "highest"), [(1, 1), (6, 6), (7, 8), (37, 40), (301, 400)])
def test_numbers_at_the_axis_are_round(count: int, highest: int) -> None:
    source = score_histogram(curve(matched=[0.9] * count), threshold=0.9)
    assert max(int(text) for text in texts(source) if text.isdigit()) == highest


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_without_detections(threshold: float) -> None:
    source = score_histogram(curve(), threshold)
    assert not elements(source, "rect", "bar")
    assert len(elements(source, "line", "threshold")) == 1
    (line,) = elements(precision_recall_chart(curve(), 0, 0), "polyline", "curve")
    assert line["points"] == ""
