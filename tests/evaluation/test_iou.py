"""The ICDAR-2015 protocol against the reference script's results and against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.evaluation import BestOfThresholdsIoU, DetectionIoU, EvaluationResult, ImageResult
from transformers_tcm.instances import TextInstances


def box(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def evaluate_image(truths: list, detections: list, ignore: list[bool] | None = None) -> ImageResult:
    return DetectionIoU().update(TextInstances(truths, ignore=ignore), TextInstances(detections))


WORD = box(10, 10, 40, 20)
BOW_TIE = [[0, 0], [10, 10], [10, 0], [0, 10]]


def test_golden_iou(golden_cases, assert_golden):
    assert_golden(DetectionIoU, "iou")
    for images, expected in golden_cases:
        pairs = [DetectionIoU().update(ground_truth, detections).pairs for ground_truth, detections in images]
        assert pairs == [[tuple(pair) for pair in image] for image in expected["iou"]["pairs"]]


def test_golden_best_of_thresholds(golden_cases):
    for images, expected in golden_cases:
        metric = BestOfThresholdsIoU()
        for ground_truth, detections in images:
            metric.update(ground_truth, detections)
        result = metric.compute()
        for name in ("precision", "recall", "hmean"):
            assert getattr(result.best, name) == pytest.approx(expected["iou_best_of_thresholds"][name], abs=1e-6)
        assert result.threshold == pytest.approx(expected["iou_best_of_thresholds"]["thr"])


def test_an_iou_of_exactly_one_half_does_not_match():
    assert evaluate_image([WORD], [box(10, 10, 20, 20)]).pairs == []
    assert evaluate_image([WORD], [box(10, 10, 20.01, 20)]).pairs == [(0, 0)]


def test_two_detections_on_one_word_count_once():
    image = evaluate_image([WORD], [box(10, 10, 30, 20), WORD])
    assert image.pairs == [(0, 0)], "the first detection wins, not the better one"
    assert (image.recall, image.precision) == (1.0, 0.5)


def test_ground_truths_choose_in_their_order():
    # The detection fits both words; the first takes it although the second fits better.
    assert evaluate_image([box(0, 0, 30, 20), box(0, 0, 42, 20)], [box(0, 0, 40, 20)]).pairs == [(0, 0)]


def test_polygons_that_cross_themselves_are_left_out():
    image = evaluate_image([BOW_TIE, WORD], [BOW_TIE, WORD])
    assert image.pairs == [(1, 1)], "pairs keep the positions of what was passed in"
    assert (image.ground_truths, image.detections) == (1, 1)


def test_image_without_words_to_find():
    assert evaluate_image([], []).hmean == 1.0
    assert (evaluate_image([], [WORD]).recall, evaluate_image([], [WORD]).precision) == (1.0, 0.0)
    image = evaluate_image([WORD], [WORD], ignore=[True])
    assert (image.ground_truths, image.detections, image.hmean) == (0, 0, 1.0)


def test_no_detections():
    image = evaluate_image([WORD], [])
    assert (image.recall, image.precision, image.hmean) == (0.0, 0.0, 0.0)


def test_detections_inside_an_ignored_region_do_not_count():
    truths, ignore = [WORD, box(10, 10, 200, 20)], [False, True]
    image = evaluate_image(truths, [WORD], ignore)
    assert (image.pairs, image.detections, image.recall) == ([], 0, 0.0), "even where it hits a word"
    half_inside = box(190, 10, 40, 20)
    assert evaluate_image(truths, [half_inside], ignore).detections == 1, "exactly one half is not more than one half"
    assert evaluate_image(truths, [box(189, 10, 40, 20)], ignore).detections == 0


def test_halves_in_two_ignored_regions_do_not_add_up():
    assert evaluate_image([box(0, 0, 10, 10), box(10, 0, 10, 10)], [box(0, 0, 20, 10)], [True, True]).detections == 1


def test_totals_weigh_words_not_images():
    metric = DetectionIoU()
    metric.update(TextInstances([WORD]), TextInstances([WORD]), image_id="a.jpg")
    metric.update(TextInstances([WORD, box(100, 10, 40, 20), box(200, 10, 40, 20)]), TextInstances([]))
    result = metric.compute()
    assert (result.recall, result.precision, result.hmean) == (0.25, 1.0, 0.4)
    assert (result.found, result.ground_truths, result.detections) == (1, 4, 1)
    assert [image.image_id for image in result.images] == ["a.jpg", 1]
    metric.reset()
    assert metric.compute() == EvaluationResult(0.0, 0.0, 0.0, 0, 0, 0, 0, [])


def test_result_as_plain_numbers():
    metric = DetectionIoU()
    metric.update(TextInstances([WORD]), TextInstances([WORD, BOW_TIE]))
    numbers = {"precision": 1.0, "recall": 1.0, "hmean": 1.0, "found": 1, "correct": 1, "detections": 1}
    plain = metric.compute().to_dict()
    assert numbers.items() <= plain.items()
    assert plain["images"] == [{"image_id": 0, "ground_truths": 1, "pairs": [(0, 0)], **numbers}]


def test_best_of_thresholds_compares_with_the_floor_strictly():
    metric = BestOfThresholdsIoU()
    detections = TextInstances([WORD, box(100, 10, 40, 20), box(200, 10, 40, 20)], scores=[0.7, 0.3, 0.65])
    metric.update(TextInstances([WORD]), detections)
    result = metric.compute()
    assert result.by_threshold[0.3].detections == 2, "0.3 does not exceed the floor"
    assert (result.threshold, result.best.hmean) == (0.7, 1.0)


def test_best_of_thresholds_needs_scores_and_thresholds():
    with pytest.raises(ValueError, match="no `scores`"):
        BestOfThresholdsIoU().update(TextInstances([WORD]), TextInstances([WORD]))
    with pytest.raises(ValueError, match="`thresholds` is empty"):
        BestOfThresholdsIoU(thresholds=())


quads = st.tuples(*(st.integers(0, 60) for _ in range(4))).map(lambda v: box(v[0], v[1], v[2] + 1, v[3] + 1))


@settings(deadline=None)
@given(truths=st.lists(quads, max_size=6), detections=st.lists(quads, max_size=6), scale=st.sampled_from([0.25, 4.0]))
def test_matching_is_one_to_one_and_does_not_depend_on_scale(truths, detections, scale):
    ground_truth, found = TextInstances(truths), TextInstances(detections)
    image = DetectionIoU().update(ground_truth, found)
    assert len({truth for truth, _ in image.pairs}) == len({detection for _, detection in image.pairs}) == image.found
    assert image.pairs == DetectionIoU().update(ground_truth.scale(scale, scale), found.scale(scale, scale)).pairs
    assert DetectionIoU().update(ground_truth, ground_truth).recall == 1.0


def test_a_thousand_words_are_found_again():
    rng = np.random.default_rng(0)
    words = [np.array(box(x, y, 40, 15)) for x in range(0, 2000, 50) for y in range(0, 500, 20)]
    jittered = [word + rng.uniform(-2, 2, word.shape) for word in words]
    image = DetectionIoU().update(TextInstances(words), TextInstances(jittered))
    assert image.found == len(words) == 1000
