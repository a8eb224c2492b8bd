"""The most probable words of a CTC recogniser, and where in the word their characters stand.

References: CTC, Graves et al., ICML 2006; prefix beam search, Hannun et al., 2014.

Shapes: T steps, C classes, the last of them blank, L characters.
"""

import heapq

import numpy as np

__all__ = ["aligned_steps", "likely_words"]

# Characters that are less probable than this share of the most probable class are not considered at a step.
LEAST_SHARE = 1e-3

Word = tuple[int, ...]


def likely_words(probabilities: np.ndarray, count: int) -> dict[Word, float]:
    """At most `count` words, as classes of their characters, with the probability of all their paths.

    It is given as a multiple of that of the most probable path, so that those of long words do not vanish.

    Args:
        probabilities: (T, C) of every class at each step.
        count: the words that are kept from one step to the next.
    """
    shares = probabilities / probabilities.max(axis=1, keepdims=True)
    # Of the paths that end in a blank, and of those that end in the last character.
    beams: dict[Word, tuple[float, float]] = {(): (1.0, 0.0)}
    for row in shares:
        likely = [(int(index), float(row[index])) for index in np.flatnonzero(row[:-1] > LEAST_SHARE)]
        beams = _next_step(beams, row, likely)
        if len(beams) > count:
            beams = dict(heapq.nlargest(count, beams.items(), key=lambda item: sum(item[1])))
    return {word: sum(paths) for word, paths in beams.items()}


def _next_step(
    beams: dict[Word, tuple[float, float]], row: np.ndarray, likely: list[tuple[int, float]]
) -> dict[Word, tuple[float, float]]:
    """Words after one more step with relative probabilities `row` (C,)."""
    blank = float(row[-1])
    grown: dict[Word, tuple[float, float]] = {}
    for word, (ended, running) in beams.items():
        total = ended + running
        last = word[-1] if word else None
        repeated = running * float(row[last]) if word else 0.0
        before = grown.get(word, (0.0, 0.0))
        grown[word] = (before[0] + total * blank, before[1] + repeated)
        for character, probability in likely:
            # A character is only written twice if a blank stands between.
            source = ended if character == last else total
            if source:
                longer = (*word, character)
                before = grown.get(longer, (0.0, 0.0))
                grown[longer] = (before[0], before[1] + source * probability)
    return grown


def aligned_steps(probabilities: np.ndarray, word: Word) -> np.ndarray:
    """The step (L,) at which each character of a word is surest, on the word's most probable path.

    Args:
        probabilities: (T, C) of every class at each step.
        word: the classes of its characters; there has to be a path of T steps.
    """
    blank = probabilities.shape[1] - 1
    states = np.full(2 * len(word) + 1, blank)
    states[1::2] = word
    costs = -np.log(np.maximum(probabilities[:, states], 1e-30, dtype=np.float64))  # (T, 2 L + 1)
    # The blank between two characters can be left out unless they are equal.
    skips = np.zeros(len(states), bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.where(np.arange(len(states)) < 2, costs[0], np.inf)
    moves = np.zeros(costs.shape, np.int64)  # states advanced to get here
    for step in range(1, len(costs)):
        one, two = np.roll(best, 1), np.where(skips, np.roll(best, 2), np.inf)
        one[0] = np.inf
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
