"""Oriented objects drawn into pictures."""

import numpy as np
import pytest

from transformers_tcm.instances import OrientedInstances
from transformers_tcm.visualization.objects import HALO, IGNORED, class_colors, draw_objects

QUADS = [np.float32([[20, 20], [80, 20], [80, 40], [20, 40]]), np.float32([[120, 60], [160, 60], [160, 90], [120, 90]])]
NAMES = {0: "ship", 1: "plane"}
BLANK = np.full((200, 300, 3), 128, np.uint8)


def test_classes_have_their_own_colours() -> None:
    drawn = np.asarray(draw_objects(BLANK, OrientedInstances(QUADS, labels=[0, 1]), NAMES, line_width=3, legend=False))
    ship, plane = class_colors(2)
    assert drawn[40, 50].tolist() == list(ship)
    assert drawn[90, 140].tolist() == list(plane)
    assert drawn[30, 50].tolist() == [128] * 3
    assert (BLANK == 128).all()
    assert len({*class_colors(40)}) == 40


def test_difficult_objects_are_grey_and_the_first_side_has_a_dot() -> None:
    objects = OrientedInstances(QUADS, labels=[0, 1], ignore=[True, False])
    drawn = np.asarray(draw_objects(BLANK, objects, NAMES, line_width=3, legend=False))
    assert drawn[40, 50].tolist() == list(IGNORED)
    assert drawn[17, 50].tolist() == list(IGNORED)  # above the first side
    assert drawn[37, 50].tolist() != list(IGNORED)
    assert HALO == (0, 0, 0)


def test_the_legend_stands_where_the_fewest_objects_are() -> None:
    objects = OrientedInstances(QUADS, labels=[0, 1])
    plain = np.asarray(draw_objects(BLANK, objects, NAMES, legend=False)).astype(int)
    drawn = np.asarray(draw_objects(BLANK, objects, NAMES)).astype(int)
    changed = np.argwhere(np.abs(drawn - plain).sum(axis=2) > 0)
    assert changed.min(axis=0)[1] > 150  # the upper left corner has the ship
    assert len(changed) > 500


def test_detections_of_a_pipeline_are_drawn() -> None:
    found = [{"polygon": QUADS[0].tolist(), "score": 0.9, "label": "plane", "box": {}}]
    drawn = np.asarray(draw_objects(BLANK, found, NAMES, line_width=3, legend=False))
    assert drawn[40, 50].tolist() == list(class_colors(2)[1])
    with pytest.raises(ValueError, match="have no `labels`"):
        draw_objects(BLANK, OrientedInstances(QUADS), NAMES)
