"""Objects in the manner of COCO: in instances, the image processor and the rows of a dataset."""

from typing import Any

import numpy as np
import pytest

from transformers_tcm import TCMImageProcessor, TextInstances
from transformers_tcm.data.loaders import row_to_instances

BOX = {"bbox": [10, 20, 30, 10], "category_id": 0, "area": 300, "iscrowd": 0}
OUTLINED = {**BOX, "segmentation": [[0, 0, 1, 0, 1, 1], [10, 20, 40, 22, 40, 30, 10, 28]], "text": "Caf\u0065\u0301"}
CROWD = {**BOX, "segmentation": {"counts": [1], "size": [64, 64]}, "iscrowd": 1}
OBJECTS = [BOX, OUTLINED, CROWD]
COLUMNS = {"bbox": [BOX["bbox"]] * 2, "category": [0, 0], "text": ["a", None]}
RECTANGLE = np.float32([[10, 20], [40, 20], [40, 30], [10, 30]])


@pytest.mark.parametrize("annotations", [OBJECTS, {"image_id": 3, "annotations": OBJECTS}], ids=["list", "of an image"])
def test_objects_become_words(annotations: Any) -> None:
    words = TextInstances.from_coco(annotations)
    np.testing.assert_array_equal(words.polygons[0], RECTANGLE)
    # The largest of several polygons.
    np.testing.assert_array_equal(words.polygons[1], np.float32([[10, 20], [40, 22], [40, 30], [10, 28]]))
    np.testing.assert_array_equal(words.polygons[2], RECTANGLE)
    assert words.texts == [None, "Caf\u0065\u0301", None]
    assert words.ignored.tolist() == [False, False, True]


def test_columns_of_a_dataset_become_words() -> None:
    words = TextInstances.from_coco(COLUMNS)
    assert (len(words), words.texts) == (2, ["a", None])
    assert len(TextInstances.from_coco({"bbox": [], "category": []})) == 0


@pytest.mark.parametrize(
    ("annotations", "error", "message"),
    [
        ([{"area": 3}], ValueError, "object 1: expected a `segmentation`"),
        ({"bbox": [[0, 0, 1, 1]], "category": []}, ValueError, "differ in length"),
        ({"image_id": 3, "bbox": []}, TypeError, "'image_id' is no list"),
        (3, TypeError, "got int"),
    ],
)
def test_what_is_no_object_is_an_error(annotations: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TextInstances.from_coco(annotations)


@pytest.mark.parametrize(
    "annotations", [{"image_id": 3, "annotations": OBJECTS[:2]}, COLUMNS], ids=["objects", "columns"]
)
def test_the_image_processor_takes_them(annotations: Any) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    processor = TCMImageProcessor(do_resize=False)
    [labels] = processor(image, annotations=annotations)["labels"]
    [same] = processor(image, annotations=TextInstances.from_coco(annotations))["labels"]
    assert labels["counts"].tolist() == [4, 4]
    assert all((labels[name] == same[name]).all() for name in same)
    assert len(processor([image] * 2, annotations=[annotations] * 2)["labels"]) == 2


def test_rows_of_a_dataset_may_hold_them() -> None:
    words = row_to_instances({"image": None, "objects": {"bbox": [BOX["bbox"]], "text": [OUTLINED["text"]]}})
    np.testing.assert_array_equal(words.polygons[0], RECTANGLE)
    assert words.texts == ["Caf\u00e9"]
    with pytest.raises(ValueError, match=r"or with `objects`; got \['image'\]"):
        row_to_instances({"image": None})
