"""End-to-end and word spotting against the reference script's results and against cases worked out by hand."""

import pytest

from transformers_tcm.evaluation import DetectionIoU, EndToEnd, ImageResult, WordRecognition, WordSpotting
from transformers_tcm.evaluation.words import dictionary_form, same_but_for_ends
from transformers_tcm.instances import TextInstances


def box(x: float, y: float, width: float = 40, height: float = 20) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def spot(protocol: type[EndToEnd], truths: list[str], read: list[str], apart: float = 100) -> ImageResult:
    """Words in a row, each found where it is."""
    truth_boxes, read_boxes = ([box(apart * i, 0) for i in range(len(words))] for words in (truths, read))
    ground_truth = TextInstances(truth_boxes, texts=truths, ignore=[text == "###" for text in truths])
    return protocol().update(ground_truth, TextInstances(read_boxes, texts=read))


@pytest.mark.parametrize("form", ["polygon", "icdar2015"])
def test_golden(assert_golden, form):
    assert_golden(EndToEnd, f"end_to_end_{form}")
    assert_golden(WordSpotting, f"word_spotting_{form}")


def test_end_to_end_compares_without_case():
    assert spot(EndToEnd, ["Sale", "STOP"], ["sALE", "SHOP"]).pairs == [(0, 0)]


@pytest.mark.parametrize(
    ("truth", "read", "same"),
    [
        ("cafe!", "CAFE", True),
        ("cafe!", "cafe!", True),
        ("'open'", "open", True),
        ("'open'", "open'", True),
        ("'open'", "'open", True),
        ("'open", "open", True),
        ("open", "open!", False),  # only ground truths are stripped
        ("!!open", "open", False),  # and by one character
        ("!!open", "!open", True),
        ("no.1", "no1", False),  # and only at the ends
        ("!", "", True),
        ("", "", False),
    ],
)
def test_special_characters_at_the_ends_of_the_truth_are_optional(truth, read, same):
    assert same_but_for_ends(truth, read) == same


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("Harry's", "Harry"),
        ("HARRY'S", "HARRY"),
        ("it's", None),  # "it" is too short
        ("-ABC-", "ABC"),
        ("well-known", "well-known"),
        ("'OPEN'", "OPEN"),
        ("(B)", None),
        ("rock'n'roll", None),  # three words
        ("2024", None),
        ("No1", None),
        ("Café", "Café"),
        ("3×4m", None),
        ("a×bc", None),
        ("Ωmega", "Ωmega"),
        ("日本語", None),
        ("", None),
    ],
)
def test_dictionary_form(word, form):
    assert dictionary_form(word) == form


def test_word_spotting_reads_the_dictionary_form_exactly():
    assert spot(WordSpotting, ["Harry's", "cafe!"], ["harry", "CAFE"]).found == 2
    assert spot(WordSpotting, ["Harry's", "cafe!"], ["harry's", "cafe!"]).found == 0


def test_word_spotting_ignores_what_is_no_word_and_what_is_found_there():
    image = spot(WordSpotting, ["2024", "Hello", "###"], ["2024", "Hello", "x"])
    assert (image.pairs, image.ground_truths, image.detections) == ([(1, 1)], 1, 1)
    image = spot(EndToEnd, ["2024", "Hello", "###"], ["2024", "Hello", "x"])
    assert (image.pairs, image.ground_truths, image.detections) == ([(0, 0), (1, 1)], 2, 2)


def test_a_wrong_word_uses_up_both_sides():
    # Both detections lie on the one word; the first takes it and reads it wrongly.
    image = spot(EndToEnd, ["Hello"], ["Help", "Hello"], apart=1)
    assert (image.pairs, image.recall, image.precision) == ([], 0.0, 0.0)


def test_end_to_end_is_never_better_than_detection(golden_cases):
    for images, _ in golden_cases:
        for ground_truth, detections in images:
            found = DetectionIoU().update(ground_truth, detections).pairs
            assert set(EndToEnd().update(ground_truth, detections).pairs) <= set(found)


def test_missing_transcriptions():
    unread = TextInstances([box(0, 0)])
    image = EndToEnd().update(TextInstances([box(0, 0)], texts=["Hello"]), unread)
    assert (image.found, image.detections) == (0, 1), "a detection without a word is read wrongly"
    with pytest.raises(ValueError, match="ground truth 0 has no transcription"):
        EndToEnd().update(unread, unread)
    ignored = TextInstances([box(0, 0)], ignore=[True])
    assert EndToEnd().update(ignored, unread).hmean == 1.0


@pytest.mark.parametrize(
    ("truth", "read"), [("CAFE\u0301", "caf\u00c9"), ("caf\u00e9", "cafe\u0301 "), (" caf\u00e9", "CAF\u00c9")]
)
def test_accents_may_be_composed_or_not_and_blanks_around_words_do_not_count(truth, read):
    for protocol in (EndToEnd, WordSpotting):
        assert spot(protocol, [truth], [read]).pairs == [(0, 0)]


def test_recognition_composes_accents():
    metric = WordRecognition()
    metric.update(["cafe\u0301"], ["caf\u00e9"])
    assert metric.compute().character_error_rate == 0
