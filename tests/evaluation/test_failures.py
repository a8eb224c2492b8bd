"""Kinds of failure and buckets of size, on boxes whose shared areas can be worked out by hand."""

import numpy as np
import pytest

from transformers_tcm.evaluation import DetectionIoU, EndToEnd
from transformers_tcm.evaluation.failures import (
    DEFINITIONS,
    FAILURES,
    ImageOutcomes,
    Outcome,
    classify,
    count_outcomes,
    size_buckets,
    worst_images,
)
from transformers_tcm.evaluation.report.crops import list_failures
from transformers_tcm.instances import TextInstances

IGNORED, MATCHED, WRONG_WORD, SPLIT, MERGED, INEXACT, MISSED, FALSE = Outcome


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def row(*spans: tuple[float, float]) -> TextInstances:
    """Words of height 20 in one line."""
    return TextInstances([box(left, 0, right, 20) for left, right in spans])


def outcomes(ground_truth: TextInstances, detections: TextInstances, with_words: bool = False) -> tuple[list, list]:
    image = classify(ground_truth, detections, "photo", with_words)
    return image.labels, image.found


def test_every_kind_is_defined_and_is_a_failure_or_not() -> None:
    assert list(DEFINITIONS) == list(Outcome)
    assert set(Outcome) - FAILURES == {IGNORED, MATCHED}


def test_matched_missed_and_false() -> None:
    assert outcomes(row((0, 100), (200, 300)), row((500, 600), (0, 90))) == ([MATCHED, MISSED], [FALSE, MATCHED])


def test_nothing_found_and_nothing_to_find() -> None:
    assert outcomes(row((0, 100)), row()) == ([MISSED], [])
    assert outcomes(row(), row((0, 100))) == ([], [FALSE])
    assert outcomes(row(), row()) == ([], [])


@pytest.mark.parametrize(
    ("pieces", "label", "found"),
    [
        # 45 + 45 of 100, each of them inside
        ([(0, 45), (55, 100)], SPLIT, [SPLIT, SPLIT]),
        # 35 + 35: exactly 70 % of the label
        ([(0, 35), (65, 100)], SPLIT, [SPLIT, SPLIT]),
        # 34 + 34 cover too little; both are at the place of the label
        ([(0, 34), (66, 100)], INEXACT, [INEXACT, INEXACT]),
        # 45 of 80 inside, 56 %: no piece, and IoU 45 / 135
        ([(0, 45), (55, 135)], INEXACT, [INEXACT, INEXACT]),
        # 45 of 75 inside, exactly 60 %
        ([(0, 45), (55, 130)], SPLIT, [SPLIT, SPLIT]),
        # one piece is no split
        ([(0, 45)], INEXACT, [INEXACT]),
        # the first is a match by itself (IoU 0.6), the other is what is left of a split word
        ([(0, 60), (70, 100)], MATCHED, [MATCHED, SPLIT]),
    ],
)
def test_split(pieces: list[tuple[float, float]], label: Outcome, found: list[Outcome]) -> None:
    assert outcomes(row((0, 100)), row(*pieces)) == ([label], found)


@pytest.mark.parametrize(
    ("words", "detection", "labels", "found"),
    [
        # IoU of each 45 / 100
        ([(0, 45), (55, 100)], (0, 100), [MERGED, MERGED], MERGED),
        # 70 % of the second
        ([(0, 100), (110, 210)], (0, 180), [MATCHED, MERGED], MATCHED),
        # 69 % of the second, IoU 69 / 210
        ([(0, 100), (110, 210)], (0, 179), [MATCHED, MISSED], MATCHED),
        # both wholly inside, but only 58 % of the detection are words; IoU of each 29 / 100
        ([(0, 29), (71, 100)], (0, 100), [INEXACT, INEXACT], INEXACT),
        # exactly 60 %
        ([(0, 30), (70, 100)], (0, 100), [MERGED, MERGED], MERGED),
    ],
)
def test_merged(words: list, detection: tuple[float, float], labels: list[Outcome], found: Outcome) -> None:
    assert outcomes(row(*words), row(detection)) == (labels, [found])


def test_a_label_merged_with_a_word_that_does_not_count() -> None:
    truth = row((0, 49), (51, 100))
    truth.ignore = np.array([False, True])
    assert outcomes(truth, row((0, 100))) == ([MERGED, IGNORED], [MERGED])


@pytest.mark.parametrize(("end", "kind"), [(100, INEXACT), (101, MISSED)])
def test_inexact_from_an_iou_of_a_tenth_on(end: float, kind: Outcome) -> None:
    labels, found = outcomes(row((0, 10)), row((0, end)))
    assert labels == [kind]
    assert found == [INEXACT if kind is INEXACT else FALSE]


def test_only_unpaired_detections_make_a_label_inexact() -> None:
    # The detection fits the first label (IoU 2 / 3) and touches the second (IoU 20 / 130).
    truth = TextInstances([box(0, 0, 100, 20), box(80, 0, 130, 20)])
    assert outcomes(truth, row((30, 110))) == ([MATCHED, MISSED], [MATCHED])


def test_what_does_not_count() -> None:
    truth = TextInstances([box(0, 0, 100, 20), [[0, 100], [50, 120], [50, 100], [0, 120]]], ignore=[True, False])
    # Half inside is not more than half.
    assert outcomes(truth, row((0, 90), (50, 150))) == ([IGNORED, IGNORED], [IGNORED, FALSE])
    assert DetectionIoU().update(truth, row((0, 90), (50, 150))).detections == 1


def read(truths: list[str], readings: list[str], ignore: list[bool] | None = None) -> ImageOutcomes:
    """Words in a row, each found where it is."""
    boxes = [box(100 * i, 0, 100 * i + 50, 20) for i in range(len(truths))]
    ground_truth = TextInstances(boxes, texts=truths, ignore=ignore)
    return classify(ground_truth, TextInstances(boxes, texts=readings), "photo", with_words=True)


def wrong_words(image: ImageOutcomes) -> list[tuple[str | None, str | None]]:
    return [(one.label, one.reading) for one in list_failures(image) if one.kind is Outcome.WRONG_WORD]


def test_wrong_words_are_those_of_the_end_to_end_protocol() -> None:
    image = read(["Sale", "'open'", "STOP", "x"], ["SALE", "open", "SHOP", "y"], ignore=[False, False, False, True])
    assert image.labels == image.found == [MATCHED, MATCHED, WRONG_WORD, IGNORED]
    assert wrong_words(image) == [("STOP", "SHOP")]
    assert image.failures == 1, "a pair with a wrong word is one failure"


def test_a_wrong_word_does_not_matter_without_words() -> None:
    truth = TextInstances([box(0, 0, 50, 20)], texts=["STOP"])
    image = classify(truth, TextInstances(truth.polygons, texts=["SHOP"]), "photo")
    assert (image.labels, wrong_words(image)) == ([MATCHED], [])


def test_words_need_a_transcription() -> None:
    with pytest.raises(ValueError, match="ground truth 0 has no transcription"):
        classify(row((0, 10)), row(), "photo", with_words=True)


def test_kinds_add_up_to_the_figures(golden_cases) -> None:
    for images, _ in golden_cases:
        for ground_truth, detections in images:
            labels, found = count_outcomes([classify(ground_truth, detections, 0, with_words=True)])
            result = DetectionIoU().update(ground_truth, detections)
            assert labels[MATCHED] + labels[WRONG_WORD] == found[MATCHED] + found[WRONG_WORD] == result.found
            assert labels[MATCHED] == EndToEnd().update(ground_truth, detections).found
            assert labels.total() - labels[IGNORED] == result.ground_truths
            assert found.total() - found[IGNORED] == result.detections
            assert labels[FALSE] == found[MISSED] == 0


def test_worst_images_come_first_and_good_ones_not_at_all() -> None:
    images = [
        classify(row((0, 100)), row((0, 100)), "good"),
        classify(row((0, 100)), row(), "one missed"),
        classify(row((0, 100)), row((200, 300), (400, 500)), "one missed, two false"),
        classify(row(), row((0, 100)), "one false"),
    ]
    assert [image.failures for image in images] == [0, 1, 3, 1]
    assert worst_images(images, 10) == [2, 1, 3], "equal ones in their order"
    assert worst_images(images, 2) == [2, 1]
    assert worst_images(images, 0) == []


def test_size_buckets() -> None:
    heights = [7.9, 8, 15.9, 16, 32, 32.1, 40]
    boxes = [box(0, 100 * i, 60, 100 * i + height) for i, height in enumerate(heights)]
    texts = ["a", "b", "c", "d", "e", "f", "###"]
    truth = TextInstances(boxes, texts=texts, ignore=[text == "###" for text in texts])
    # b and e are read, d wrongly; the others are missed.
    found = TextInstances([boxes[1], boxes[3], boxes[4]], texts=["b", "x", "e"])
    small, low, high, large = size_buckets([classify(truth, found, "photo", with_words=True)])
    assert [bucket.name for bucket in (small, low, high, large)] == ["below 8", "8 to 16", "16 to 32", "above 32"]
    assert [bucket.words for bucket in (small, low, high, large)] == [1, 2, 2, 1]
    assert [bucket.recall for bucket in (small, low, high, large)] == [0, 0.5, 1, 0]
    assert [bucket.end_to_end_recall for bucket in (small, low, high, large)] == [0, 0.5, 0.5, 0]
    assert high.outcomes == {MATCHED: 1, WRONG_WORD: 1}


def test_the_short_side_is_that_of_turned_and_tall_words_too() -> None:
    # 40 x 10 turned by 45 degrees, and 10 x 40 upright
    turned = np.array(box(-20, -5, 20, 5)) @ np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
    buckets = size_buckets([classify(TextInstances([turned, box(0, 0, 10, 40)]), row(), "photo")])
    assert [bucket.words for bucket in buckets] == [0, 2, 0, 0]


def test_a_curved_word_is_as_tall_as_its_letters() -> None:
    # A half ring between the radii 45 and 55: letters of 10 pixels in a box of 55 pixels.
    angles = np.linspace(np.pi, 2 * np.pi, 31)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring = np.concatenate([55 * circle, 45 * circle[::-1]])
    buckets = size_buckets([classify(TextInstances([ring]), row(), "photo")])
    assert [bucket.words for bucket in buckets] == [0, 1, 0, 0]


def test_buckets_without_words() -> None:
    assert [(bucket.words, bucket.recall, bucket.end_to_end_recall) for bucket in size_buckets([])] == [(0, 0, 0)] * 4
