"""From characters to classes and back: what a recogniser is taught, and the words its logits stand for."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch

from .ctc_search import LEAST_PROBABILITY, Word, ctc_beam_search, ctc_forced_alignment
from .language_model import CharacterLanguageModel, needs_search

__all__ = [
    "PRINTABLE_ASCII",
    "UNKNOWN_CHARACTER",
    "WordReading",
    "attention_steps",
    "char_classes",
    "ctc_steps",
    "read_words",
]

PRINTABLE_ASCII = "".join(map(chr, range(32, 127)))
# What the class of all characters outside the charset is read as.
UNKNOWN_CHARACTER = "\ufffd"


class WordReading(NamedTuple):
    """What a recogniser made of one word.

    Args:
        text: the characters.
        score: how sure that text is, in [0, 1]: the geometric mean of the probabilities of its characters as they look;
            where a language model chose it, times its share of the probability of all texts; 0 for no text.
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
    steps_of: Callable[[np.ndarray], np.ndarray],
    language_model: CharacterLanguageModel | None = None,
    text_threshold: float | torch.Tensor = 0.0,
) -> list[WordReading]:
    """The N most probable words of logits (N, V, T, C) with C = len(charset) + 2.

    Args:
        char_logits: in V views of every class at each step: the charset, unknown, and last blank (CTC) or end
            (attention).
        charset: the characters.
        steps_of: which steps of (T, C) stand for characters: `ctc_steps` or `attention_steps`.
        language_model: weighs how words that a CTC recogniser thinks likely are spelled, and the views vote; without it
            each character is the one that looks most probable in the first view.
        text_threshold: words whose characters look less clear than this score, of all or (N,) of each, keep their first
            look, since searching is what takes the time, and so do those that look so clear that spelling has no say,
            see `needs_search`.
    """
    probabilities = char_logits.detach().float().softmax(dim=-1).cpu().numpy()
    readings = [_most_probable(word[steps_of(word)], charset) for word in probabilities[:, 0]]
    if language_model is None or not readings:
        return readings
    scores = torch.tensor([look.score for look in readings])
    unclear = needs_search(scores, language_model.settings, text_threshold).nonzero()[:, 0].tolist()
    elected = _elected_words(probabilities[unclear], language_model)
    for index, (word, share) in zip(unclear, elected, strict=True):
        readings[index] = _respelled(probabilities[index, 0], word, share, charset)
    return readings


def _elected_words(probabilities: np.ndarray, language_model: CharacterLanguageModel) -> list[tuple[Word, float]]:
    """The words that are most probable in all views (N, V, T, C) together, and how probable."""
    count, views = probabilities.shape[:2]
    likely = ctc_beam_search(probabilities.reshape(count * views, *probabilities.shape[2:]), language_model)
    words: list[tuple[Word, float]] = []
    for first in range(0, len(likely), views):
        votes = Counter[Word]()
        for view in likely[first : first + views]:
            votes.update(view)
        word = max(votes, key=votes.__getitem__)
        words.append((word, votes[word] / views))
    return words


def _respelled(probabilities: np.ndarray, word: Word, share: float, charset: str) -> WordReading:
    """The reading of a word with that share of the probability of all; probabilities (T, C)."""
    if not word:
        return WordReading("", 0.0, probabilities[:0, : len(charset)])
    steps = ctc_forced_alignment(probabilities, word)
    clearness = np.exp(np.log(probabilities[steps, list(word)].clip(min=LEAST_PROBABILITY)).mean())
    return WordReading(_text(word, charset), float(share * clearness), probabilities[steps, : len(charset)])


def ctc_steps(probabilities: np.ndarray) -> np.ndarray:
    """The steps that stand for characters in (T, classes): the surest of each run of equal classes but blank."""
    best, blank = probabilities.argmax(axis=1), probabilities.shape[1] - 1
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    runs = np.split(np.arange(len(best)), starts[1:])
    surest = [run[probabilities[run, best[run[0]]].argmax()] for run in runs if best[run[0]] != blank]
    return np.array(surest, dtype=np.int64)


def attention_steps(probabilities: np.ndarray) -> np.ndarray:
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
