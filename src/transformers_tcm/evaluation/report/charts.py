"""Charts as inline SVG, whose colours come from the style sheet of the page they stand in."""

from collections.abc import Iterable
from html import escape

import numpy as np

from ..score_curve import ScoreCurve

__all__ = ["precision_recall_chart", "score_histogram"]

# Of a chart and of the field between its axes, in units of the view box.
_WIDTH, _HEIGHT = 480, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 468, 12, 290
_BIN_WIDTH = 0.025


class _Field:
    """The field between the axes: from values to coordinates of the drawing."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]):
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 2)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(_BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low), 2)

    def axes(self, x_ticks: Iterable[float], y_ticks: Iterable[float], x_name: str, y_name: str) -> str:
        """Grid lines with their numbers, and the names of both axes."""
        parts = []
        for value in x_ticks:
            x = self.x(value)
            parts.append(f'<line class="grid" x1="{x}" y1="{_TOP}" x2="{x}" y2="{_BOTTOM}"/>')
            parts.append(f'<text x="{x}" y="{_BOTTOM + 17}" text-anchor="middle">{value:g}</text>')
        for value in y_ticks:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y}" x2="{_RIGHT}" y2="{y}"/>')
            parts.append(f'<text x="{_LEFT - 7}" y="{y + 4}" text-anchor="end">{value:g}</text>')
        centre = (_LEFT + _RIGHT) / 2, (_TOP + _BOTTOM) / 2
        parts.append(f'<text x="{centre[0]}" y="{_HEIGHT - 8}" text-anchor="middle">{x_name}</text>')
        turned = f'transform="translate(14 {centre[1]}) rotate(-90)"'
        return "".join(parts) + f'<text {turned} text-anchor="middle">{y_name}</text>'


def precision_recall_chart(curve: ScoreCurve, recall: float, precision: float) -> str:
    """Precision over recall as the threshold falls, with a dot at the figures of the run."""
    field = _Field((0, 1), (0, 1))
    fifths = [0, 0.2, 0.4, 0.6, 0.8, 1]
    points = " ".join(
        f"{field.x(x)},{field.y(y)}" for x, y in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True)
    )
    drawing = field.axes(fifths, fifths, "recall", "precision")
    drawing += f'<polyline class="curve" points="{points}"/>'
    drawing += f'<circle class="point" cx="{field.x(recall)}" cy="{field.y(precision)}" r="5"/>'
    return _svg(
        f"Precision over recall; at the threshold of this run recall {recall:.3f} and precision {precision:.3f}.",
        drawing,
    )


def score_histogram(curve: ScoreCurve, threshold: float) -> str:
    """Matched and unmatched detections by score, stacked, with a line at the threshold of the run."""
    scores = np.concatenate([curve.matched, curve.unmatched])
    # Whole bins, so that the threshold, which is often a multiple of their width, parts two of them.
    first = int(np.floor(min([threshold, *scores.tolist()]) / _BIN_WIDTH + 1e-9))
    edges = np.arange(first, round(1 / _BIN_WIDTH) + 1) * _BIN_WIDTH
    if len(edges) < 2:
        edges = np.array([1 - _BIN_WIDTH, 1.0])
    matched, unmatched = (np.histogram(part, edges)[0] for part in (curve.matched, curve.unmatched))
    step = _round_step(int((matched + unmatched).max()))
    highest = step * max(1, -(-int((matched + unmatched).max()) // step))
    field = _Field((edges[0], edges[-1]), (0, highest))
    ticks = [tenth / 10 for tenth in range(11) if tenth / 10 >= edges[0] - 1e-9]
    drawing = field.axes(ticks, range(0, highest + 1, step), "score", "detections")
    drawing += _bars(field, edges, np.zeros_like(matched), matched, "matched")
    drawing += _bars(field, edges, matched, unmatched, "false")
    x = field.x(threshold)
    drawing += f'<line class="threshold" x1="{x}" y1="{_TOP}" x2="{x}" y2="{_BOTTOM}"/>'
    return _svg(
        f"Scores of {len(curve.matched)} matched and {len(curve.unmatched)} unmatched detections; "
        f"the threshold is {threshold:g}.",
        drawing,
    )


def _bars(field: _Field, edges: np.ndarray, bases: np.ndarray, counts: np.ndarray, kind: str) -> str:
    """A bar for each bin that holds something, standing on the bars below."""
    bars = []
    for left, right, base, count in zip(edges[:-1], edges[1:], bases, counts, strict=True):
        if count:
            x, y = field.x(left) + 1, field.y(base + count)
            extent = f'width="{field.x(right) - x:.2f}" height="{field.y(base) - y:.2f}"'
            tip = f"<title>{count} {kind}, score {left:.3f} to {right:.3f}</title>"
            bars.append(f'<rect class="bar {kind}" x="{x:.2f}" y="{y}" {extent}>{tip}</rect>')
    return "".join(bars)


def _round_step(highest: int) -> int:
    """1, 2 or 5 times a power of ten: at most six steps up to `highest`."""
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor * 6 >= highest:
                return step * factor
        step *= 10


def _svg(description: str, drawing: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{drawing}</svg>"
    )
