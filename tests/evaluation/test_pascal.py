"""The second protocol of Total-Text against the reference script's results and by hand."""

from transformers_tcm.evaluation import ImageResult, PascalTotalText
from transformers_tcm.instances import TextInstances


def box(x: float, width: float, height: float = 20) -> list[list[float]]:
    return [[x, 0], [x + width, 0], [x + width, height], [x, height]]


def judge(truths: list, detections: list, ignore: list[bool] | None = None) -> ImageResult:
    return PascalTotalText().update(TextInstances(truths, ignore=ignore), TextInstances(detections))


def test_golden(assert_golden):
    assert_golden(PascalTotalText, "pascal_total_text")


def test_one_pixel_is_added_to_the_union():
    assert judge([box(0, 100)], [box(0, 50)]).found == 0, "1000 / 2001"
    # 1001 / (2001 + 1) is exactly one half, which is enough.
    assert judge([[[0, 0], [2001, 0], [2001, 1], [0, 1]]], [[[0, 0], [1001, 0], [1001, 1], [0, 1]]]).found == 1


def test_detections_insist_on_their_best_ground_truth():
    # Both detections fit the second word better; the first word stays unfound although the second detection fits it.
    truths, detections = [box(0, 100), box(0, 130)], [box(0, 130), box(0, 120)]
    image = judge(truths, detections)
    assert (image.pairs, image.recall, image.precision) == ([(1, 0)], 0.5, 0.5)


def test_ignored_regions_and_nothing():
    image = judge([box(0, 100), box(0, 100)], [box(0, 100)], ignore=[False, True])
    assert (image.found, image.ground_truths, image.detections) == (0, 1, 0)
    assert judge([], []).hmean == 1.0
    assert judge([box(0, 100)], []).recall == 0.0
