"""DetEval in both forms against the reference scripts' results and against cases worked out by hand."""

import pytest

from transformers_tcm.evaluation import DetEvalICDAR2013, DetEvalTotalText, ImageResult
from transformers_tcm.instances import TextInstances

BOTH = [DetEvalICDAR2013, DetEvalTotalText]


def box(x: float, width: float, y: float = 0, height: float = 20) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def judge(protocol: type, truths: list, detections: list, ignore: list[bool] | None = None) -> ImageResult:
    return protocol().update(TextInstances(truths, ignore=ignore), TextInstances(detections))


def test_golden(assert_golden):
    assert_golden(DetEvalICDAR2013, "deteval_icdar2013")
    assert_golden(DetEvalTotalText, "deteval_total_text")


@pytest.mark.parametrize("protocol", BOTH)
def test_one_to_one(protocol):
    image = judge(protocol, [box(0, 100)], [box(5, 100), box(300, 50)])
    assert (image.found, image.correct, image.recall, image.precision) == (1, 1, 1.0, 0.5)


@pytest.mark.parametrize("protocol", BOTH)
def test_a_split_word_earns_less(protocol):
    image = judge(protocol, [box(0, 100)], [box(0, 50), box(50, 50)])
    assert (image.found, image.correct) == (0.8, 1.6)
    assert image.pairs == [(0, 0), (0, 1)]


@pytest.mark.parametrize(("protocol", "credit"), [(DetEvalICDAR2013, 1.0), (DetEvalTotalText, 0.8)])
def test_merged_words(protocol, credit):
    image = judge(protocol, [box(0, 50), box(50, 50)], [box(0, 100)])
    assert (image.found, image.correct) == (2 * credit, credit)
    assert image.pairs == [(0, 0), (1, 0)]


def test_thresholds_differ():
    # The detection covers 3 / 4 of the word: enough for Total-Text's 0.7, not for ICDAR 2013's 0.8.
    truths, detections = [box(0, 100)], [box(0, 75)]
    assert judge(DetEvalTotalText, truths, detections).found == 1
    assert judge(DetEvalICDAR2013, truths, detections).found == 0
    # Half of the detection lies in the word: enough for 0.4, not for 0.6.
    assert judge(DetEvalTotalText, truths, [box(0, 200)]).found == 0
    assert judge(DetEvalICDAR2013, truths, [box(0, 200)]).found == 1


def test_total_text_compares_singles_strictly_and_splits_not():
    assert judge(DetEvalTotalText, [box(0, 100)], [box(0, 70)]).found == 0
    assert judge(DetEvalTotalText, [box(0, 100)], [box(0, 70), box(90, 100)]).found == 1, "as the one piece of a split"


def test_total_text_keeps_its_quirk_on_merged_words():
    # 0.65 of each word is covered: more than 0.6, less than the recall threshold of 0.7.
    truths, detections = [box(0, 100, 0), box(0, 100, 20)], [box(0, 65, 0, 40)]
    assert judge(DetEvalTotalText, truths, detections).found == 1.6
    assert judge(DetEvalICDAR2013, truths, detections).found == 0


def test_icdar_single_match_must_not_touch_anything_else():
    # The second detection grazes the word: no one-to-one match, but a split with a single piece.
    image = judge(DetEvalICDAR2013, [box(0, 100)], [box(0, 100), box(95, 100)])
    assert (image.found, image.correct, image.pairs) == (1, 1, [(0, 0)])
    # The word in the first half of the detection is touched by another word: a merge with a single part.
    image = judge(DetEvalICDAR2013, [box(0, 100), box(140, 100)], [box(0, 150)])
    assert (image.found, image.correct, image.pairs) == (1, 1, [(0, 0)])


@pytest.mark.parametrize("protocol", BOTH)
def test_ignored_regions(protocol):
    image = judge(protocol, [box(0, 100), box(200, 100)], [box(0, 100), box(200, 80)], ignore=[False, True])
    assert (image.found, image.ground_truths, image.detections) == (1, 1, 1)


def test_polygons_that_cross_themselves():
    bow_tie = [[0, 0], [100, 100], [100, 0], [0, 100]]
    image = judge(DetEvalICDAR2013, [bow_tie], [bow_tie])
    assert (image.ground_truths, image.detections) == (0, 0), "left out"
    image = judge(DetEvalTotalText, [bow_tie], [bow_tie])
    assert (image.ground_truths, image.detections, image.found) == (1, 1, 1), "mended"


@pytest.mark.parametrize("protocol", BOTH)
def test_nothing(protocol):
    assert judge(protocol, [], []).hmean == 1.0
    assert judge(protocol, [box(0, 100)], []).recall == 0.0
    assert judge(protocol, [], [box(0, 100)]).precision == 0.0
