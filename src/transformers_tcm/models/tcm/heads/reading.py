"""From characters to classes and back: what a recogniser is taught, and the words its logits stand for."""

from typing import NamedTuple

import numpy as np
import torch

__all__ = ["PRINTABLE_ASCII", "UNKNOWN_CHARACTER", "WordReading", "char_classes", "read_words"]

PRINTABLE_ASCII = "".join(map(chr, range(32, 127)))
# What the class of all characters outside the charset is read as.
UNKNOWN_CHARACTER = "\ufffd"


class WordReading(NamedTuple):
    """What a recogniser made of one word.

    Args:
        text: the characters.
        score: geometric mean of their probabilities, in [0, 1]; 0 for an empty text.
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


def read_words(char_logits: torch.Tensor, charset: str, decoder: str) -> list[WordReading]:
    """The N most probable words of logits (N, T, C) with C = len(charset) + 2.

    Args:
        char_logits: of every class at each step: the charset, unknown, and last blank (`"ctc"`) or end (`"attention"`).
        charset: the characters.
        decoder: `"ctc"`: a character is what a run of equal steps says, and blanks separate them; `"attention"`: each
            step is a character until the end.
    """
    probabilities = char_logits.detach().float().softmax(dim=-1).cpu().numpy()
    steps_of = _ctc_steps if decoder == "ctc" else _attention_steps
    return [_reading(word[steps_of(word)], charset) for word in probabilities]


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


def _reading(probabilities: np.ndarray, charset: str) -> WordReading:
    """The word of its characters' probabilities (length, classes)."""
    best = probabilities.argmax(axis=1)
    text = "".join((charset + UNKNOWN_CHARACTER)[index] for index in best)
    score = float(np.exp(np.log(probabilities.max(axis=1)).mean())) if text else 0.0
    return WordReading(text, score, probabilities[:, : len(charset)])
