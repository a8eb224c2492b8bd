"""CTC beam search with a language model for the words that both agree on, and CTC forced alignment of their characters.

References: CTC, Graves et al., ICML 2006; prefix beam search with a language model, Hannun et al., First-Pass Large
Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs, 2014.

Shapes: N words, T steps, C classes, the last of them blank, L characters.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from .language_model import CharacterLanguageModel

__all__ = ["Word", "ctc_beam_search", "ctc_forced_alignment"]

# Characters that are less probable than this share of the most probable class are not considered at a step.
LEAST_SHARE = 1e-3
# In place of probabilities that are zero.
LEAST_PROBABILITY = 1e-300
# Of factors, either way, so that no word becomes impossible by its spelling, or infinitely likely.
LARGEST_EXPONENT = 600.0
# In place of the last character of a word that has none yet.
NOTHING = -1

# The classes of its characters.
Word = tuple[int, ...]
# All paths that read as one beginning of a word: the probability of those that end in a blank, and of those that end in
# its last character, times what its spelling counts, relative to the most probable beginning.
Paths = tuple[float, float]


class Step(NamedTuple):
    """Probabilities at a step, relative to that of the most probable class.

    Args:
        blank: of blank.
        characters: of the likely characters, by class.
    """

    blank: float
    characters: dict[int, float]


class Spelling:
    """What a language model multiplies the probabilities of words by, computed once for each beginning.

    Args:
        language_model: its weight and length bonus count.
    """

    def __init__(self, language_model: CharacterLanguageModel):
        self.language_model = language_model
        self.known: dict[Word, list[float]] = {}

    def look_up(self, beginnings: Iterable[Word]) -> None:
        """Make the factors of what follows these beginnings known, a number for every class and last for the end."""
        settings = self.language_model.settings
        new = [word for word in dict.fromkeys(beginnings) if word not in self.known]
        if new:
            scores = self.language_model.next_characters(new)
            scores[:, :-1] += settings.length_bonus
            exponents = (settings.weight * scores).clip(-LARGEST_EXPONENT, LARGEST_EXPONENT)
            self.known.update(zip(new, np.exp(exponents.astype(np.float64)).tolist(), strict=True))


def ctc_beam_search(probabilities: np.ndarray, language_model: CharacterLanguageModel) -> list[dict[Word, float]]:
    """CTC prefix beam search: of N pictures the words, as classes of their characters, probable by looks and spelling.

    Args:
        probabilities: (N, T, C) of every class at each step.
        language_model: its settings say how much spelling counts, and how many beginnings are pursued.

    Returns:
        Their shares of the probability of all of them, in [0, 1].
    """
    spelling = Spelling(language_model)
    width = language_model.settings.beam_width
    beams: list[dict[Word, Paths]] = [{(): (1.0, 0.0)} for _ in probabilities]
    # All words go on together, so that the language model is asked for many beginnings at a time.
    for steps in zip_longest(*map(_likely_steps, probabilities)):
        spelling.look_up(word for beam in beams for word in beam)
        beams = [
            beam if step is None else _next_beam(beam, step, spelling, width)
            for beam, step in zip(beams, steps, strict=True)
        ]
    spelling.look_up(word for beam in beams for word in beam)
    return [_shares({word: sum(paths) * spelling.known[word][-1] for word, paths in beam.items()}) for beam in beams]


def _likely_steps(probabilities: np.ndarray) -> list[Step]:
    """What is likely at the steps of a word (T, C).

    Steps in a row at which there is nothing but blank are one step: they read the same.
    """
    # Relative ones, so that the probabilities of long words do not vanish.
    shares = probabilities / probabilities.max(axis=1, keepdims=True)
    likely = shares[:, :-1] > LEAST_SHARE
    kept = likely.any(axis=1)
    kept[1:] |= kept[:-1]
    shares, likely = shares[kept], likely[kept]
    steps = [Step(blank, {}) for blank in shares[:, -1].tolist()]
    places, classes = np.nonzero(likely)
    for place, index, share in zip(places.tolist(), classes.tolist(), shares[places, classes].tolist(), strict=True):
        steps[place].characters[index] = share
    return steps


def _next_beam(beam: dict[Word, Paths], step: Step, spelling: Spelling, width: int) -> dict[Word, Paths]:
    """The most probable beginnings after one more step."""
    grown = {}
    for word, (ended, running) in beam.items():
        grown[word] = (ended + running) * step.blank, running * step.characters.get(word[-1] if word else NOTHING, 0.0)
    # What is less probable is not among the first, and takes the time to make a word of.
    least = sorted(map(sum, grown.values()))[-width] if len(grown) >= width else 0.0
    for word, (ended, running) in beam.items():
        total, last, following = ended + running, word[-1] if word else NOTHING, spelling.known[word]
        for character, probability in step.characters.items():
            # A character is only written twice if a blank stands between.
            chance = (ended if character == last else total) * probability * following[character]
            longer = (*word, character)
            if longer in grown:
                grown[longer] = grown[longer][0], grown[longer][1] + chance
            elif chance > least:
                grown[longer] = 0.0, chance
    return _best(grown, width)


def _best(beam: dict[Word, Paths], width: int) -> dict[Word, Paths]:
    """The most probable beginnings."""
    best = sorted(beam.items(), key=lambda item: sum(item[1]), reverse=True)[:width]
    highest = sum(best[0][1])
    return {word: (ended / highest, running / highest) for word, (ended, running) in best}


def _shares(chances: dict[Word, float]) -> dict[Word, float]:
    total = sum(chances.values())
    return {word: chance / total for word, chance in chances.items()}


def ctc_forced_alignment(probabilities: np.ndarray, word: Word) -> np.ndarray:
    """The step (L,) at which each character of a word is surest, on the word's most probable path.

    Args:
        probabilities: (T, C) of every class at each step.
        word: the classes of its characters; there has to be a path of T steps.
    """
    blank = probabilities.shape[1] - 1
    states = np.full(2 * len(word) + 1, blank)
    states[1::2] = word
    costs = -np.log(np.maximum(probabilities[:, states], LEAST_PROBABILITY, dtype=np.float64))  # (T, 2 L + 1)
    # The blank between two characters can be left out unless they are equal.
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.where(np.arange(len(states)) < 2, costs[0], np.inf)
    moves = np.zeros(costs.shape, np.int64)  # states advanced to get here
    for step in range(1, len(costs)):
        one = np.concatenate([[np.inf], best])[:-1]
        two = np.where(skips, np.concatenate([[np.inf, np.inf], best])[:-2], np.inf)
        options = np.stack([best, one, two])
        moves[step] = options.argmin(axis=0)
        best = options.min(axis=0) + costs[step]
    state = len(states) - 1 if len(states) == 1 or best[-1] <= best[-2] else len(states) - 2
    path = np.empty(len(costs), np.int64)
    for step in reversed(range(len(costs))):
        path[step] = state
        state -= moves[step, state]
    return np.array([_cheapest(costs[:, place], path == place) for place in range(1, len(states), 2)], np.int64)


def _cheapest(costs: np.ndarray, allowed: np.ndarray) -> int:
    return int(np.where(allowed, costs, np.inf).argmin())
