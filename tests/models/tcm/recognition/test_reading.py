"""From characters to classes, and from logits to words, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.models.tcm.recognition.reading import (
    PRINTABLE_ASCII,
    UNKNOWN_CHARACTER,
    attention_steps,
    char_classes,
    ctc_steps,
    read_words,
)

CHARSET = "ab"
A, B, UNKNOWN, LAST = 0, 1, 2, 3  # LAST is blank or end


def logits_of(classes: list[int], num_classes: int = len(CHARSET) + 2, confidence: float = 4.0) -> torch.Tensor:
    """Logits (1, 1, T, classes) that say these classes, all alike sure of it."""
    return confidence * torch.nn.functional.one_hot(torch.tensor(classes), num_classes).float()[None, None]


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([A, A, A], "a"),
        ([A, LAST, A], "aa"),
        ([LAST, A, A, LAST, LAST, B, LAST], "ab"),
        ([A, B, A], "aba"),
        ([B, B, LAST, B, A, A, LAST, LAST, A], "bbaa"),
        ([A, UNKNOWN, UNKNOWN, B], f"a{UNKNOWN_CHARACTER}b"),
        ([LAST, LAST], ""),
    ],
)
def test_ctc_merges_runs_and_drops_blanks(steps: list[int], text: str) -> None:
    [word] = read_words(logits_of(steps), CHARSET, ctc_steps)
    assert word.text == text
    assert word.probabilities.shape == (len(text), len(CHARSET))
    sure = np.exp(4) / (np.exp(4) + 3)
    assert word.score == pytest.approx(sure if text else 0.0)


def test_ctc_takes_the_surest_step_of_a_run() -> None:
    logits = logits_of([A, A, A, LAST])
    logits[0, 0, 1] *= 2  # the middle of the run
    [word] = read_words(logits, CHARSET, ctc_steps)
    expected = torch.tensor([8.0, 0, 0, 0]).softmax(dim=0)
    assert word.score == pytest.approx(float(expected[0]))
    np.testing.assert_allclose(word.probabilities, expected[None, :2], rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([A, A, B, LAST, B], "aab"),
        ([LAST, A], ""),
        ([A, UNKNOWN, LAST], f"a{UNKNOWN_CHARACTER}"),
        ([B, B], "bb"),  # the steps end before the word does
    ],
)
def test_attention_reads_to_the_end(steps: list[int], text: str) -> None:
    [word] = read_words(logits_of(steps), CHARSET, attention_steps)
    assert word.text == text
    assert word.probabilities.shape == (len(text), len(CHARSET))
    assert (word.score > 0) == bool(text)


def test_score_is_the_geometric_mean() -> None:
    logits = torch.cat([logits_of([A, B], confidence=1.0), logits_of([LAST])], dim=2)
    logits[0, 0, 1] *= 3
    probabilities = logits.softmax(dim=-1).amax(dim=-1)[0, 0]
    [word] = read_words(logits, CHARSET, attention_steps)
    assert word.score == pytest.approx(float((probabilities[0] * probabilities[1]) ** 0.5))


def test_half_precision_and_gradients_are_no_matter() -> None:
    logits = logits_of([A, LAST, B]).bfloat16().requires_grad_()
    assert [word.text for word in read_words(logits, CHARSET, ctc_steps)] == ["ab"]


def test_no_words() -> None:
    assert read_words(torch.zeros(0, 1, 5, 4), CHARSET, ctc_steps) == []
    assert read_words(torch.zeros(0, 1, 5, 4), CHARSET, attention_steps) == []


def code_points(words: list[str]) -> torch.Tensor:
    longest = max(map(len, words))
    return torch.tensor([[*map(ord, word), *[0] * (longest - len(word))] for word in words])


def test_classes_by_hand() -> None:
    classes = char_classes(code_points(["ba", "aé", "日"]), "ba")
    assert classes.tolist() == [[0, 1], [1, 2], [2, -1]]


def test_other_charsets() -> None:
    charset = "жыЖ Ы"  # in no particular order
    classes = char_classes(code_points(["Жы ж", "Ыz"]), charset)
    assert classes.tolist() == [[2, 1, 3, 0], [4, 5, -1, -1]]


@given(st.lists(st.text(st.sampled_from(PRINTABLE_ASCII + "ÄЖ日😀"), min_size=1, max_size=9), min_size=1, max_size=4))
def test_what_is_taught_is_what_is_read(words: list[str]) -> None:
    """Logits that say the classes of a word give the word back, characters outside the charset as unknown."""
    num_classes = len(PRINTABLE_ASCII) + 2
    classes = char_classes(code_points(words), PRINTABLE_ASCII)
    expected = ["".join(char if char in PRINTABLE_ASCII else UNKNOWN_CHARACTER for char in word) for word in words]
    ended = classes.masked_fill(classes < 0, num_classes - 1)
    logits = torch.nn.functional.one_hot(ended, num_classes).float()
    assert [word.text for word in read_words(logits[:, None], PRINTABLE_ASCII, attention_steps)] == expected
    blanks = torch.full_like(ended, num_classes - 1)
    spaced = torch.stack([ended, blanks], dim=2).flatten(1)  # a blank after every character
    logits = torch.nn.functional.one_hot(spaced, num_classes).float()
    assert [word.text for word in read_words(logits[:, None], PRINTABLE_ASCII, ctc_steps)] == expected
