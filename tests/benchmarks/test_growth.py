"""The benchmark of growth: a point for each number, in a table and a drawing; what it measures is no matter here."""

import xml.etree.ElementTree as ET
from argparse import Namespace


def test_each_curve_has_its_points(script) -> None:
    makes = script.curves_of(Namespace(edges=[64, 32], words=[0, 7], classes=[2]))
    assert {name: list(points) for name, points in makes.items()} == {
        "pixels": [64, 32],
        "words": [0, 7],
        "classes": [2],
    }
    assert makes["words"][0].args == (0, 7)
    (point,) = script.curve({32: makes["pixels"][32]}, rounds=1, threads=1)
    assert point["at"] == 32
    assert point["milliseconds"] > 0
    assert point["megabytes"] > 50


def test_points_are_told_and_drawn(script) -> None:
    points = [{"at": 32, "milliseconds": 5.0, "megabytes": 100.0}, {"at": 64, "milliseconds": 20.0, "megabytes": 300.0}]
    assert "| pixels | 64 | 20 | 300 |" in script.table({"pixels": points})
    drawn = ET.fromstring(script.drawing({"pixels": points, "words": points}))
    circles = drawn.findall("{*}circle")
    assert len(circles) == 4
    heights = [float(circle.get("cy")) for circle in circles[:2]]
    assert heights == [20 + 150 * 0.75, 20]
