"""From characters to classes and back: what a recogniser is taught, and the words its logits stand for."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from .ctc_search import aligned_steps, likely_words
from .language_model import CharacterLanguageModel

__all__ = ["PRINTABLE_ASCII", "UNKNOWN_CHARACTER", "WordReading", "char_classes", "read_words"]

PRINTABLE_ASCII = "".join(map(chr, range(32, 127)))
# What the class of all characters outside the charset is read as.
UNKNOWN_CHARACTER = "\ufffd"
# In place of a probability that is too small for its number format.
LEAST_CHANCE = 1e-300


class WordReading(NamedTuple):
    """What a recogniser made of one word.

    Args:
        text: the characters.
        score: how clear the characters look: geometric mean of the probabilities of the most probable ones, in [0, 1],
            whether a language model chose others or not; 0 where none is seen.
        probabilities: (len(text), len(charset)) of every character of the charset at each place.
    """

    text: str
    score: float
    probabilities: np.ndarray


def char_classes(char_ids: torch.Tensor, charset: str) -> torch.Tensor:
    """Classes of Unicode code points, both (N, L): places in the charset, `len(charset)` for characters outside of it.

    Zeros, which follow the end of a word, become -1.
    """
    codes, classes = char_ids.new_tensor([ord(character) for character in charset]).sort()
    places = torch.searchsorted(codes, char_ids.contiguous()).clamp(max=len(charset) - 1)  # (N, L)
    known = codes[places] == char_ids
    return torch.where(known, classes[places], len(charset)).masked_fill(char_ids == 0, -1)


def read_words(
    char_logits: torch.Tensor,
    charset: str,
    decoder: str,
    language_model: CharacterLanguageModel | None = None,
) -> list[WordReading]:
    """The N most probable words of logits (N, T, C) with C = len(charset) + 2.

    Args:
        char_logits: of every class at each step: the charset, unknown, and last blank (`"ctc"`) or end (`"attention"`).
        charset: the characters.
        decoder: `"ctc"`: a character is what a run of equal steps says, and blanks separate them; `"attention"`: each
            step is a character until the end.
        language_model: chooses between the words that a CTC recogniser thinks likely; without it each character is
            the one that looks most probable.
    """
    probabilities = char_logits.detach().float().softmax(dim=-1).cpu().numpy()
    steps_of = _ctc_steps if decoder == "ctc" else _attention_steps
    looks = [_most_probable(word[steps_of(word)], charset) for word in probabilities]
    if language_model is None:
        return looks
    return [
        WordReading(_text(word, charset), seen.score, steps[aligned_steps(steps, word), : len(charset)])
        for word, seen, steps in zip(_choose(probabilities, language_model), looks, probabilities, strict=True)
    ]


@torch.no_grad()
def _choose(probabilities: np.ndarray, language_model: CharacterLanguageModel) -> list[tuple[int, ...]]:
    """The words of (N, T, C), as classes, that both their looks and their spelling make probable."""
    settings = language_model.settings
    candidates = [likely_words(steps, settings.num_candidates) for steps in probabilities]
    words = [word for likely in candidates for word in likely]
    looks = np.log(np.maximum([chance for likely in candidates for chance in likely.values()], LEAST_CHANCE))
    lengths = np.array([len(word) for word in words])
    scores = looks + settings.weight * (_spelling(words, language_model) + settings.length_bonus * lengths)
    ends = np.cumsum([0, *map(len, candidates)])
    return [words[first + scores[first:last].argmax()] for first, last in pairwise(ends)]


def _spelling(words: Sequence[tuple[int, ...]], language_model: CharacterLanguageModel) -> np.ndarray:
    """Logarithms (N,) of the probabilities of words by their spelling."""
    device = language_model.embedding.weight.device
    classes = torch.full((len(words), max(map(len, words), default=0)), -1)
    for row, word in zip(classes, words, strict=True):
        row[: len(word)] = torch.tensor(word)
    return language_model(classes.to(device)).cpu().numpy()


def _ctc_steps(probabilities: np.ndarray) -> np.ndarray:
    """The steps that stand for characters in (T, classes): the surest of each run of equal classes but blank."""
    best, blank = probabilities.argmax(axis=1), probabilities.shape[1] - 1
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    runs = np.split(np.arange(len(best)), starts[1:])
    surest = [run[probabilities[run, best[run[0]]].argmax()] for run in runs if best[run[0]] != blank]
    return np.array(surest, dtype=np.int64)


def _attention_steps(probabilities: np.ndarray) -> np.ndarray:
    """The steps before the first end in (T, classes)."""
    ends = np.flatnonzero(probabilities.argmax(axis=1) == probabilities.shape[1] - 1)
    return np.arange(ends[0] if len(ends) else len(probabilities))


def _most_probable(probabilities: np.ndarray, charset: str) -> WordReading:
    """The word of the most probable characters in (length, C)."""
    classes = probabilities.argmax(axis=1)
    score = float(np.exp(np.log(probabilities.max(axis=1)).mean())) if len(classes) else 0.0
    return WordReading(_text(classes, charset), score, probabilities[:, : len(charset)])


def _text(classes: Iterable[int], charset: str) -> str:
    return "".join((charset + UNKNOWN_CHARACTER)[index] for index in classes)
