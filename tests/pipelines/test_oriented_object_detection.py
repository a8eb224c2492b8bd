"""`pipeline("oriented-object-detection")`, with a model that takes coloured regions for objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oriented_fakes import CONFIG, ColouredRegions, scene
from transformers import pipeline

from transformers_tcm import OrientedInstances, OrientedObjectDetectionPipeline, TCMImageProcessorPil
from transformers_tcm.models.tcm.modeling_tcm import TCMForTextDetection
from transformers_tcm.rotated_boxes import boxes_to_quads, quads_to_boxes, rotated_iou

BOXES = torch.tensor([[60.0, 50.0, 60.0, 20.0, 0.5], [150.0, 100.0, 40.0, 16.0, -1.2], [250.0, 60.0, 50.0, 24.0, 0.0]])
LABELS = [0, 1, 0]
OBJECTS = list(zip(boxes_to_quads(BOXES).numpy(), LABELS, strict=True))
NAMES = {0: "ship", 1: "small-vehicle"}


@pytest.fixture
def detector() -> OrientedObjectDetectionPipeline:
    processor = TCMImageProcessorPil(do_resize=False)
    return pipeline("oriented-object-detection", model=ColouredRegions(CONFIG), image_processor=processor)


def assert_all_found(found: list[dict[str, Any]]) -> None:
    assert len(found) == len(OBJECTS)
    quads = np.array([one["polygon"] for one in found], np.float32)
    for box, label in zip(BOXES, LABELS, strict=True):
        iou = rotated_iou(torch.from_numpy(quads_to_boxes(quads)), box.expand(len(quads), -1))
        assert iou.max() > 0.8
        assert found[int(iou.argmax())]["label"] == NAMES[label]


def test_objects_are_given_with_label_box_and_turned_outline(detector: OrientedObjectDetectionPipeline) -> None:
    found = detector(scene(300, 150, *OBJECTS))
    assert_all_found(found)
    assert set(found[0]) == {"score", "label", "box", "polygon"}
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    for one in found:
        corners = np.array(one["polygon"])
        hull = [*corners.min(axis=0), *corners.max(axis=0)]
        np.testing.assert_allclose(list(one["box"].values()), hull, atol=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_tiles_are_read_at_their_size_without_an_overview_and_objects_appear_once(
    detector: OrientedObjectDetectionPipeline, batch_size: int
) -> None:
    image = scene(300, 150, *OBJECTS)
    assert_all_found(detector(image, tile=128, tile_overlap=64, batch_size=batch_size))
    assert {shape[2:] for shape in detector.model.shapes} == {(128, 128)}
    assert sum(shape[0] for shape in detector.model.shapes) == 4 * 2
    several = detector([image, scene(100, 80), image], tile=128, tile_overlap=64)
    assert [len(found) for found in several] == [3, 0, 3]
    maps = detector(image, tile=128, tile_overlap=64, output_score_maps=True)
    assert_all_found(maps["instances"])
    assert maps["score_map"].shape == (150, 300)


def test_images_that_fit_into_a_tile_are_read_as_without(detector: OrientedObjectDetectionPipeline) -> None:
    image = scene(300, 150, *OBJECTS)
    assert detector(image, tile=320) == detector(image)


def test_a_size_is_the_one_that_images_are_cut_at(detector: OrientedObjectDetectionPipeline) -> None:
    assert_all_found(detector(scene(300, 150, *OBJECTS), size=600, tile=256, tile_overlap=128))


def test_objects_of_other_classes_may_lie_upon_each_other(detector: OrientedObjectDetectionPipeline) -> None:
    ship = boxes_to_quads(torch.tensor([[60.0, 60.0, 80.0, 60.0, 0.2]])).numpy()[0]
    car = boxes_to_quads(torch.tensor([[60.0, 60.0, 30.0, 16.0, 0.2]])).numpy()[0]
    found = detector(scene(128, 128, (ship, 0), (car, 1)))
    assert sorted(one["label"] for one in found) == ["ship", "small-vehicle"]


def test_detections_become_instances(detector: OrientedObjectDetectionPipeline) -> None:
    found = detector(scene(300, 150, *OBJECTS))
    instances = OrientedInstances.from_detections(found, CONFIG.label2id)
    assert sorted(instances.labels.tolist()) == sorted(LABELS)
    assert all(polygon.shape == (4, 2) for polygon in instances.polygons)


def test_without_a_model_it_says_that_none_is_bundled() -> None:
    with pytest.raises(ValueError, match="no model for oriented objects is bundled"):
        pipeline("oriented-object-detection")


def test_other_models_and_arguments_are_named(detector: OrientedObjectDetectionPipeline, tmp_path: Path) -> None:
    from detection_fakes import CONFIG as TEXT_CONFIG

    with pytest.raises(TypeError, match="no detector of oriented objects"):
        pipeline(
            "oriented-object-detection",
            model=TCMForTextDetection(TEXT_CONFIG),
            image_processor=TCMImageProcessorPil(),
        )
    with pytest.raises(TypeError, match=r"unknown arguments.*unclip_ratio.*it takes.*nms_threshold"):
        detector(scene(64, 64), unclip_ratio=1.5)
    with pytest.raises(TypeError, match=r"unknown arguments.*crop_edge"):
        detector(scene(64, 64), crop_edge=320)
