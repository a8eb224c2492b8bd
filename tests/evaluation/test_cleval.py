"""CLEval against the package's results and against cases worked out by hand."""

import numpy as np
import pytest

from transformers_tcm.evaluation import CLEval, CLEvalResult
from transformers_tcm.evaluation.cleval import _longest_common_subsequence
from transformers_tcm.instances import TextInstances

Word = tuple[list[list[float]], str]


def box(x: float, width: float, y: float = 0, height: float = 20) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def judge(truths: list[Word], detections: list[Word]) -> CLEvalResult:
    metric = CLEval()
    texts = [text for _, text in truths]
    metric.update(
        TextInstances([quad for quad, _ in truths], texts=texts, ignore=[text == "###" for text in texts]),
        TextInstances([quad for quad, _ in detections], texts=[text for _, text in detections]),
    )
    return metric.compute()


def test_golden(golden_cases):
    for images, expected in golden_cases:
        metric = CLEval()
        for ground_truth, detections in images:
            metric.update(ground_truth, detections)
        result = metric.compute()
        for part, prefix in ((result.detection, "det"), (result.end_to_end, "e2e")):
            figures = {f"{prefix}_r": part.recall, f"{prefix}_p": part.precision, f"{prefix}_h": part.hmean}
            assert figures == pytest.approx({name: expected["cleval"][name] for name in figures}, abs=1e-6)


def test_found_and_read():
    result = judge([(box(0, 50), "Hello")], [(box(0, 50), "Hallo")])
    assert (result.detection.recall, result.detection.precision) == (1.0, 1.0)
    assert (result.end_to_end.recall, result.end_to_end.precision) == (0.8, 0.8)
    assert judge([(box(0, 40), "SALE")], [(box(0, 40), "sale")]).end_to_end.hmean == 0.0, "case matters"


def test_half_a_word():
    # Characters centred at 5, 15, 25, 35: the detection holds the first two.
    result = judge([(box(0, 40), "SALE")], [(box(0, 20), "SA")])
    assert (result.detection.recall, result.detection.precision) == (0.5, 1.0)
    assert (result.end_to_end.recall, result.end_to_end.precision) == (0.5, 1.0)


def test_split_word_costs_a_character_of_recall():
    result = judge([(box(0, 40), "SALE")], [(box(20, 20), "LE"), (box(0, 20), "SA")])
    assert (result.splits, result.merges) == (1, 0)
    assert (result.detection.recall, result.detection.precision) == (0.75, 1.0)
    assert (result.end_to_end.recall, result.end_to_end.precision) == (0.75, 1.0), "read from left to right"


def test_merged_words_cost_a_character_of_precision():
    result = judge([(box(0, 20), "SA"), (box(20, 20), "LE")], [(box(0, 40), "SALE")])
    assert (result.splits, result.merges) == (0, 1)
    assert (result.detection.recall, result.detection.precision) == (1.0, 0.75)
    assert (result.end_to_end.recall, result.end_to_end.precision) == (1.0, 0.75)


def test_character_on_the_edge_between_two_pieces_counts_once():
    result = judge([(box(0, 30), "OFF")], [(box(0, 15), "O"), (box(15, 15), "FF")])
    assert (result.detection.found, result.detection.detections) == (2, 3)
    assert result.overlapped_characters == 0


def test_characters_found_twice():
    result = judge([(box(0, 40), "SALE")], [(box(0, 30), "SAL"), (box(10, 30), "ALE")])
    assert (result.overlapped_characters, result.detection.detections, result.detection.correct) == (2, 6, 4)


def test_upright_word_is_read_from_bottom_to_top():
    # Half as wide as high at most: characters lie along the other middle line, the first one at the bottom.
    result = judge([(box(0, 10, height=40), "SALE")], [(box(0, 10, y=20, height=20), "SA")])
    assert (result.detection.recall, result.end_to_end.precision) == (0.5, 1.0)


def test_false_detection_counts_by_its_shape():
    assert judge([], [(box(0, 20), "")]).detection.detections == 1
    assert judge([], [(box(0, 10, height=400), "")]).detection.detections == 10


def test_penalties_do_not_go_below_zero():
    # Three detections hold the one character: 1 - 2 penalties.
    result = judge([(box(0, 30), "O")], [(box(0, 20), "O")] + [(box(10, 20), "O")] * 2)
    assert result.detection.found == -1
    assert (result.detection.recall, result.detection.hmean) == (0.0, 0.0)


def test_ignored_regions():
    result = judge([(box(0, 40), "SALE"), (box(0, 200), "###")], [(box(0, 40), "SALE"), (box(100, 50), "x")])
    assert (result.detection.ground_truths, result.detection.hmean) == (4, 1.0), "words are cut out of the region"
    assert result.end_to_end.detections == 4, "and what lies in the rest of it does not count"


def test_images_without_words_or_detections():
    assert judge([], []).detection.ground_truths == 0
    result = judge([(box(0, 40), "SALE")], [])
    assert (result.detection.recall, result.end_to_end.hmean) == (0.0, 0.0)


def test_only_quads_with_transcriptions():
    triangle = TextInstances([np.array([[0, 0], [9, 0], [9, 9]])], texts=["a"])
    with pytest.raises(ValueError, match="detection 0 has 3 points; CLEval takes quads"):
        CLEval().update(TextInstances([box(0, 40)], texts=["SALE"]), triangle)
    with pytest.raises(ValueError, match="no transcription"):
        CLEval().update(TextInstances([box(0, 40)]), triangle.select([]))


@pytest.mark.parametrize(("one", "other", "common"), [("abcb", "bab", "bb"), ("", "a", ""), ("SALE", "xSxLy", "SL")])
def test_common_subsequence(one, other, common):
    assert _longest_common_subsequence(one, other) == common
