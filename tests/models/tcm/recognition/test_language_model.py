"""Spelling: what the language model counts, learns and changes about a reading."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from transformers_tcm.models.tcm.recognition.base import RecognizerConfig
from transformers_tcm.models.tcm.recognition.language_model import (
    CharacterLanguageModel,
    LanguageModelConfig,
    fold_character,
)
from transformers_tcm.models.tcm.recognition.reading import PRINTABLE_ASCII, char_classes, ctc_steps, read_words

SMALL: dict[str, Any] = {"context": 4, "embedding_size": 8, "hidden_size": 32, "uniform_share": 0}


def language_model(charset: str = PRINTABLE_ASCII, **changes: Any) -> CharacterLanguageModel:
    torch.manual_seed(0)
    return CharacterLanguageModel(LanguageModelConfig(**{**SMALL, **changes}), charset).eval()


def classes_of(words: list[str], charset: str = PRINTABLE_ASCII) -> torch.Tensor:
    ids = torch.zeros(len(words), max(map(len, words), default=0), dtype=torch.int64)
    for row, word in zip(ids, words, strict=True):
        row[: len(word)] = torch.tensor([ord(character) for character in word])
    return char_classes(ids, charset)


def taught(words: list[str], **changes: Any) -> CharacterLanguageModel:
    """A model that has these words by heart."""
    model = language_model(**changes).train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(classes_of(words)).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def logits_of(word: str, doubtful: dict[int, tuple[str, float]], charset: str = PRINTABLE_ASCII) -> torch.Tensor:
    """CTC logits (1, 1, T, classes) of a word; at a doubtful place another character is as much more probable."""
    logits = torch.zeros(1, 1, 2 * len(word), len(charset) + 2)
    logits[0, 0, 1::2, -1] = 20.0
    for place, character in enumerate(word):
        logits[0, 0, 2 * place, charset.index(character)] = 20.0
        if place in doubtful:
            other, lead = doubtful[place]
            logits[0, 0, 2 * place, charset.index(other)] = 20.0 + lead
    return logits


def chance(model: CharacterLanguageModel, word: str, charset: str = PRINTABLE_ASCII) -> float:
    """Logarithm of the probability of a word."""
    classes = [index if index >= 0 else len(charset) for index in map(charset.find, word)]
    beginnings = [tuple(classes[:length]) for length in range(len(word) + 1)]
    following = model.next_characters(beginnings)
    return float(sum(row[index] for row, index in zip(following, [*classes, -1], strict=True)))


def test_what_follows_sums_to_one() -> None:
    model = language_model("abc")
    following = model.next_characters([(), (0,), (1, 3, 2)])
    assert following.shape == (3, 3 + 1 + 1)  # the charset, unknown and the end
    np.testing.assert_allclose(np.exp(following).sum(axis=1), 1, rtol=1e-5)


def test_a_share_of_the_probabilities_is_uniform() -> None:
    # (1, classes + 1): the charset, unknown and the end
    alone, shared = (language_model("abc", uniform_share=share).next_characters([(0,)]) for share in (0, 0.25))
    np.testing.assert_allclose(np.exp(shared), 0.75 * np.exp(alone) + 0.25 / 5, rtol=1e-5)
    assert np.isfinite(shared).all()


def test_codes_are_not_turned_into_words() -> None:
    clear = logits_of("#19-61", {1: ("l", -1.0)})
    readings = [
        read_words(clear, PRINTABLE_ASCII, ctc_steps, taught(["late", "sale", "hail"], clear_score=1, **changes))
        for changes in ({"weight": 2.0}, {"weight": 2.0, "uniform_share": 0.2})
    ]
    assert [reading.text for (reading,) in readings] != ["#19-61"] * 2
    assert readings[1][0].text == "#19-61"


@given(st.lists(st.text(PRINTABLE_ASCII, max_size=8), min_size=1, max_size=6))
def test_loss_is_the_mean_over_characters_and_ends(words: list[str]) -> None:
    model = language_model()
    expected = -sum(chance(model, word) for word in words) / sum(len(word) + 1 for word in words)
    assert model.loss(classes_of(words)).item() == pytest.approx(expected, rel=1e-4)


def test_case_and_digits_make_no_difference() -> None:
    model = language_model()
    chances = [chance(model, word) for word in ("Room12", "rOOM98", "room1x")]
    assert chances[0] == chances[1] != chances[2]


def test_characters_outside_the_charset_are_one() -> None:
    model = language_model("abc")
    losses = [model.loss(classes_of([word], "abc")).item() for word in ("aéb", "aßb", "acb")]
    assert losses[0] == losses[1] != losses[2]
    assert -4 * losses[0] == pytest.approx(chance(model, "aéb", "abc"), rel=1e-5)


def test_letters_with_a_lower_case_of_two_characters_stay() -> None:
    assert fold_character("İ") == "İ"
    assert fold_character("É") == "é"
    assert fold_character("٣") == "0"


def test_only_the_context_counts() -> None:
    model = language_model("abcxy", context=2)
    following = model.next_characters([(3, 3, 0, 1), (4, 4, 0, 1), (3, 3, 0), (3, 4, 0)])
    np.testing.assert_array_equal(following[0], following[1])
    assert (following[2] != following[3]).any()


def test_learns_words_by_heart() -> None:
    model = taught(["sale", "open", "exit"])
    known, unknown = ([chance(model, word) for word in words] for words in (["SALE", "open"], ["SOLE", "epon"]))
    np.testing.assert_allclose(np.exp(known), 1 / 3, atol=0.05)
    assert max(unknown) < min(known) - 2


def test_perplexity_tells_words_from_others() -> None:
    model = taught(["sale", "open", "exit"])
    classes = torch.full((3, 5), -1)
    for row, word in zip(classes, ("SALE", "OPEN", "EPNOA"), strict=True):
        row[: len(word)] = torch.tensor([PRINTABLE_ASCII.index(character) for character in word])
    known, other, unknown = model.perplexities(classes).tolist()
    assert 1 <= known < 2
    assert 1 <= other < 2
    assert unknown > 10
    mean = np.log(model.perplexities(classes[:2]).numpy()).mean()  # both have as many characters
    assert model.loss(classes[:2]).item() == pytest.approx(mean, rel=1e-4)


def test_joint_training_leaves_it_alone() -> None:
    assert not any(parameter.requires_grad for parameter in language_model().parameters())


def test_spelling_decides_what_looks_alike() -> None:
    logits = logits_of("SALE", {1: ("O", 1.0)})
    [seen] = read_words(logits, PRINTABLE_ASCII, ctc_steps)
    [chosen] = read_words(logits, PRINTABLE_ASCII, ctc_steps, taught(["sale", "open", "exit"]))
    assert (seen.text, chosen.text) == ("SOLE", "SALE")
    # The score is that of the chosen letters; probabilities are those at their places.
    assert 0 < chosen.score < seen.score
    np.testing.assert_allclose(chosen.probabilities, seen.probabilities)


def test_spelling_has_no_say_where_the_looks_leave_no_doubt() -> None:
    logits = logits_of("SALE", {1: ("O", 1.0)})
    model = taught(["sale", "open", "exit"])
    [seen] = read_words(logits, PRINTABLE_ASCII, ctc_steps)
    model.settings.clear_score = seen.score
    [kept] = read_words(logits, PRINTABLE_ASCII, ctc_steps, model)
    assert (kept.text, kept.score) == ("SOLE", seen.score)
    model.settings.clear_score = 1.0
    assert read_words(logits, PRINTABLE_ASCII, ctc_steps, model)[0].text == "SALE"


def test_views_vote() -> None:
    """Two views that are a little in favour of one word outvote one that is so of another."""
    model = taught(["sale", "sole"], weight=0)
    sale, sole = logits_of("SALE", {1: ("O", -0.5)}), logits_of("SOLE", {1: ("A", -0.5)})
    views = torch.cat([sale, sole, sole], dim=1)
    [seen], [elected] = (
        read_words(views, PRINTABLE_ASCII, ctc_steps),
        read_words(views, PRINTABLE_ASCII, ctc_steps, model),
    )
    assert (seen.text, elected.text) == ("SALE", "SOLE")
    clear = torch.cat([logits_of("SALE", {}), sole, sole], dim=1)
    assert read_words(clear, PRINTABLE_ASCII, ctc_steps, model)[0].text == "SALE"
    words = torch.cat([views, views[:, [1, 0, 0]]])
    assert [word.text for word in read_words(words, PRINTABLE_ASCII, ctc_steps, model)] == ["SOLE", "SALE"]


def test_what_is_clear_stays() -> None:
    [word] = read_words(logits_of("SOLE", {}), PRINTABLE_ASCII, ctc_steps, taught(["sale", "open", "exit"]))
    assert word.text == "SOLE"


def test_words_that_look_unclear_are_not_searched_for() -> None:
    model, logits = taught(["sale", "open", "exit"]), logits_of("SALE", {1: ("O", 1.0)})
    [seen] = read_words(logits, PRINTABLE_ASCII, ctc_steps)
    assert 0.9 < seen.score < 1
    for threshold, text in ((seen.score - 1e-6, "SALE"), (seen.score + 1e-6, "SOLE")):
        assert read_words(logits, PRINTABLE_ASCII, ctc_steps, model, threshold)[0].text == text


def test_without_weight_only_looks_count() -> None:
    model = taught(["sale", "open", "exit"], weight=0, length_bonus=0)
    [word] = read_words(logits_of("SALE", {1: ("O", 1.0)}), PRINTABLE_ASCII, ctc_steps, model)
    assert word.text == "SOLE"


def test_no_words_and_nothing_seen() -> None:
    model = language_model()
    assert read_words(torch.zeros(0, 1, 6, len(PRINTABLE_ASCII) + 2), PRINTABLE_ASCII, ctc_steps, model) == []
    nothing = torch.zeros(1, 1, 6, len(PRINTABLE_ASCII) + 2)
    nothing[..., -1] = 50.0
    [word] = read_words(nothing, PRINTABLE_ASCII, ctc_steps, model)
    assert (word.text, word.score, word.probabilities.shape) == ("", 0.0, (0, len(PRINTABLE_ASCII)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 0}, "`context` of the language model must be positive, got 0"),
        ({"beam_width": 0}, "`beam_width` of the language model must be positive"),
        ({"size": 4}, "size"),
        ({"margins": [0.1, -0.5]}, r"`margins` of the language model leave nothing of a word, got \[0.1, -0.5\]"),
        ({"weight": -1}, "`weight` of the language model must not be negative, got -1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        RecognizerConfig(language_model=settings)


def test_the_attention_decoder_needs_none() -> None:
    with pytest.raises(ValueError, match="`language_model` goes with the decoder 'ctc'"):
        RecognizerConfig(decoder="attention", language_model={})
