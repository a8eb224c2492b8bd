"""Search for words and their places against the enumeration of all paths."""

from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from transformers_tcm.models.tcm.heads.ctc_search import aligned_steps, likely_words

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


@given(STEPS)
def test_words_have_the_probability_of_all_their_paths(logits: list[tuple[float, ...]]) -> None:
    probabilities = probabilities_of(logits)
    expected: dict[tuple[int, ...], float] = defaultdict(float)
    for path, probability in all_paths(probabilities).items():
        expected[word_of(path)] += probability
    found = likely_words(probabilities, count=1000)
    assert found.keys() == expected.keys()
    most_probable_path = probabilities.max(axis=1).prod()
    for word, probability in found.items():
        assert probability * most_probable_path == pytest.approx(expected[word], rel=1e-6)


def test_only_so_many_words_are_kept() -> None:
    probabilities = probabilities_of([(1.0, 0.9, 0.8)] * 5)
    assert len(likely_words(probabilities, count=4)) == 4


def test_a_doubtful_letter_brings_up_other_words() -> None:
    probabilities = np.array([[0.55, 0.44, 0.01], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    words = likely_words(probabilities, count=8)
    assert sorted(words, key=words.__getitem__, reverse=True)[:3] == [(A, B), (B, B), (B,)]


def test_unlikely_characters_are_not_looked_at() -> None:
    probabilities = np.array([[0.9995, 0.0005, 0.0]])
    assert list(likely_words(probabilities, count=8)) == [(), (A,)]


def test_long_words_do_not_vanish() -> None:
    probabilities = np.tile([[0.02, 0.98 / 2, 0.98 / 2]], (2000, 1))
    assert max(likely_words(probabilities, count=4).values()) > 0


@given(STEPS, st.lists(st.sampled_from([A, B]), max_size=3))
def test_characters_stand_on_the_most_probable_path(logits: list[tuple[float, ...]], characters: list[int]) -> None:
    word = tuple(characters)
    probabilities = probabilities_of(logits)
    paths = {path: chance for path, chance in all_paths(probabilities).items() if word_of(path) == word}
    assume(paths)
    best = max(paths.values())
    steps = aligned_steps(probabilities, word)
    assert len(steps) == len(word)
    assert any(stands_on(path, steps, probabilities) for path, chance in paths.items() if chance >= best * (1 - 1e-9))


def stands_on(path: tuple[int, ...], steps: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether each of `steps` is the surest of one run of a path, in order."""
    runs = [(character, list(run)) for character, run in groupby(range(len(path)), key=path.__getitem__)]
    surest = [max(probabilities[step, character] for step in run) for character, run in runs if character != BLANK]
    inside = [step in run for step, (_, run) in zip(steps, [run for run in runs if run[0] != BLANK], strict=True)]
    characters = [path[step] for step in steps]
    return all(inside) and np.allclose(probabilities[steps, characters], surest)
