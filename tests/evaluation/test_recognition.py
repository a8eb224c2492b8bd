"""Word accuracy, 1-NED and character error rate on words worked out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformers_tcm.evaluation import RecognitionResult, WordRecognition, letters_and_digits


def recognize(references: list[str], predictions: list[str], **options) -> RecognitionResult:
    metric = WordRecognition(**options)
    metric.update(references, predictions)
    return metric.compute()


def test_by_hand():
    # Distances 0, 1, 4 (case) and 3, longest 4, 5, 4, 3; characters of the references 4 + 5 + 4 + 0.
    result = recognize(["Sale", "Hello", "STOP", ""], ["Sale", "Hell", "stop", "abc"])
    assert result == RecognitionResult(
        accuracy=0.25,
        accuracy_ignore_case=0.5,
        one_minus_ned=pytest.approx((1 + 4 / 5 + 0 + 0) / 4),
        character_error_rate=pytest.approx(8 / 13),
        words=4,
    )


def test_normalized_as_mmocr_does():
    assert letters_and_digits("It's 中 No.1^é") == "its中no1"
    assert recognize(["It's!"], ["ITS"], normalize=letters_and_digits).one_minus_ned == 1.0


def test_nothing_to_read():
    assert recognize([], []) == RecognitionResult(0.0, 0.0, 0.0, 0.0, 0)
    assert recognize([""], [""]).one_minus_ned == 1.0


def test_one_prediction_for_each_reference():
    with pytest.raises(ValueError, match="2 references for 1 predictions"):
        recognize(["a", "b"], ["a"])


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5))
def test_bounds_and_order_of_updates(pairs):
    references, predictions = map(list, zip(*pairs, strict=True))
    result = recognize(references, predictions)
    assert result.accuracy <= result.one_minus_ned <= 1
    metric = WordRecognition()
    for reference, prediction in pairs:
        metric.update([reference], [prediction])
    assert metric.compute() == result
