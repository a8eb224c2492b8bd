"""Search for words and their places against the enumeration of all paths."""

from collections import defaultdict
from itertools import groupby, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from transformers_tcm.models.tcm.recognition.ctc_search import Word, ctc_beam_search, ctc_forced_alignment
from transformers_tcm.models.tcm.recognition.language_model import CharacterLanguageModel, LanguageModelConfig

BLANK = 2
A, B = 0, 1
# Logits of two characters and blank at one to five steps.
STEPS = st.lists(st.tuples(*[st.floats(-3, 3)] * 3), min_size=1, max_size=5)


def probabilities_of(logits: list[tuple[float, ...]]) -> np.ndarray:
    exponentials = np.exp(np.array(logits))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def word_of(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(character for character, _ in groupby(path) if character != BLANK)


def all_paths(probabilities: np.ndarray) -> dict[tuple[int, ...], float]:
    return {
        path: float(np.prod([row[character] for row, character in zip(probabilities, path, strict=True)]))
        for path in product(range(3), repeat=len(probabilities))
    }


def speller(charset: str = "ab", **settings: Any) -> CharacterLanguageModel:
    torch.manual_seed(0)
    settings = {"context": 2, "embedding_size": 4, "hidden_size": 8, "beam_width": 1000, **settings}
    model = CharacterLanguageModel(LanguageModelConfig(**settings), charset)
    with torch.no_grad():
        model.output[1].bias.normal_()  # some letters are more common
    return model


def most_probable_words(probabilities: np.ndarray, model: CharacterLanguageModel) -> list[Word]:
    return [max(words, key=words.__getitem__) for words in ctc_beam_search(probabilities, model)]


def spelling(model: CharacterLanguageModel, word: Word) -> float:
    """Weighted logarithm of the probability of a word with the bonus of its length."""
    settings = model.settings
    following = [float(model.next_characters([word[:place]])[0, character]) for place, character in enumerate(word)]
    end = float(model.next_characters([word])[0, -1])
    return settings.weight * (sum(following) + end + settings.length_bonus * len(word))


@given(STEPS, st.floats(0, 2), st.floats(0, 3))
def test_shares_are_those_of_all_paths(logits: list[tuple[float, ...]], weight: float, length_bonus: float) -> None:
    """Whether spelling counts or not."""
    probabilities = probabilities_of([*logits, *logits[:1]])
    model = speller("a", weight=weight, length_bonus=length_bonus)  # a, unknown and blank
    chances: dict[Word, float] = defaultdict(float)
    for path, probability in all_paths(probabilities).items():
        chances[word_of(path)] += probability
    scores = {word: np.log(chance) + spelling(model, word) for word, chance in chances.items()}
    [found] = ctc_beam_search(probabilities[None], model)
    total = np.logaddexp.reduce(list(scores.values()))
    assert found == pytest.approx({word: np.exp(score - total) for word, score in scores.items()}, abs=1e-4)


def test_words_are_searched_for_together_and_alike() -> None:
    model = speller(beam_width=4)
    words = np.random.default_rng(0).dirichlet([0.3] * 4, (9, 12))  # a, b, unknown and blank
    words[::2, 5:] = [0, 0, 0, 1]  # some end earlier
    together = most_probable_words(words, model)
    assert together == [most_probable_words(word[None], model)[0] for word in words]
    assert len(set(together)) > 5


def test_only_so_many_beginnings_are_pursued() -> None:
    probabilities = np.array([[0.6, 0.4, 0.0], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]])[None]
    wide, narrow = (speller("a", beam_width=width, weight=0) for width in (8, 1))
    assert most_probable_words(probabilities, wide) == [(A, A)]
    # After two steps, only the most probable beginning is left.
    asked: list[Word] = []
    original = narrow.next_characters
    narrow.next_characters = lambda beginnings: asked.extend(beginnings) or original(beginnings)
    assert most_probable_words(probabilities, narrow) == [(A, A)]
    assert asked == [(), (A,), (A, A)]


def test_unlikely_characters_are_not_looked_at() -> None:
    probabilities = np.array([[[0.0005, 0.9995, 0.0]]])
    model = speller("a", weight=1, uniform_share=0)
    with torch.no_grad():
        model.output[1].bias[model.symbols[A]] = 30.0
    assert most_probable_words(probabilities, model) == [(B,)]
    probabilities[0, 0, :2] = 0.002, 0.998
    assert most_probable_words(probabilities, model) == [(A,)]


def test_blanks_in_a_row_are_as_good_as_one() -> None:
    steps = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0], [0.5, 0.4, 0.1]])
    longer = np.insert(steps, [1, 1, 1], [0.0, 0.0, 1.0], axis=0)
    model = speller("a")
    assert most_probable_words(longer[None], model) == most_probable_words(steps[None], model)


def test_long_words_do_not_vanish() -> None:
    probabilities = np.tile([[0.9999, 0.0, 0.0001], [0.0001, 0.0, 0.9999]], (1000, 1))
    assert most_probable_words(probabilities[None], speller("a", beam_width=2, weight=0)) == [(A,) * 1000]


@pytest.mark.parametrize(("weight", "length_bonus"), [(1000.0, 0.0), (1000.0, 100.0)])
def test_spelling_that_counts_beyond_all_measure_is_no_error(weight: float, length_bonus: float) -> None:
    """Even where looks leave no other word."""
    model = speller("ab", weight=weight, length_bonus=length_bonus, uniform_share=0.0)
    probabilities = np.zeros((1, 6, 4), np.float32)
    probabilities[0, range(6), [0, 3, 1, 3, 1, 3]] = 1
    [found] = ctc_beam_search(probabilities, model)
    assert {word: share for word, share in found.items() if share} == {(0, 1, 1): 1.0}


@given(STEPS, st.lists(st.sampled_from([A, B]), max_size=3))
def test_characters_stand_on_the_most_probable_path(logits: list[tuple[float, ...]], characters: list[int]) -> None:
    word = tuple(characters)
    probabilities = probabilities_of(logits)
    paths = {path: chance for path, chance in all_paths(probabilities).items() if word_of(path) == word}
    assume(paths)
    best = max(paths.values())
    steps = ctc_forced_alignment(probabilities, word)
    assert len(steps) == len(word)
    assert any(stands_on(path, steps, probabilities) for path, chance in paths.items() if chance >= best * (1 - 1e-9))


def stands_on(path: tuple[int, ...], steps: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether each of `steps` is the surest of one run of a path, in order."""
    runs = [(character, list(run)) for character, run in groupby(range(len(path)), key=path.__getitem__)]
    surest = [max(probabilities[step, character] for step in run) for character, run in runs if character != BLANK]
    inside = [step in run for step, (_, run) in zip(steps, [run for run in runs if run[0] != BLANK], strict=True)]
    characters = [path[step] for step in steps]
    return all(inside) and np.allclose(probabilities[steps, characters], surest)
