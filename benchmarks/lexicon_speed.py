"""Milliseconds to look a reading up in a large lexicon, by rule and by how badly it was read.

    python benchmarks/lexicon_speed.py [--words 90000] [--readings 200]

The lexicon is made of random syllables, so words have neighbours as in a natural language. It prints the
processor's time, which other programs on the machine do not lengthen, for words one by one and for all in one call.
"""

import argparse
import random
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from transformers_tcm.lexicon import Lexicon, LexiconRule

RULES: dict[LexiconRule, float | None] = {"nearest": None, "within": 1.5, "weighted": None}
CHARSET = "".join(map(chr, range(32, 127)))
SYLLABLES = [a + b + c for a in ["", *"bcdfghklmnprst"] for b in "aeiou" for c in ["", *"lnrst"]]


def make_words(count: int, rng: random.Random) -> list[str]:
    """Different words of one to five syllables."""
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(rng.choices(SYLLABLES, k=rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 5])))] = None
    return list(words)


def misread(word: str, errors: int, rng: random.Random) -> str:
    """Replace, insert or delete characters at random places."""
    for _ in range(errors):
        place = rng.randrange(len(word) + 1)
        inserted = rng.choice(["", *"aeiourstn"])
        word = word[:place] + inserted + word[place + rng.randrange(2) :]
    return word or "a"


def probabilities_of(word: str, rng: np.random.Generator) -> np.ndarray:
    """(characters, 95): most of the mass on what was read, some on a few others."""
    rows = rng.dirichlet(np.full(len(CHARSET), 0.05), size=len(word)) * 0.4
    rows[np.arange(len(word)), [CHARSET.index(character) for character in word]] += 0.6
    return rows


def milliseconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=90_000)
    parser.add_argument("--readings", type=int, default=200)
    options = parser.parse_args()
    rng = random.Random(0)
    words = make_words(options.words, rng)
    print(f"index of {len(words):,} words: {milliseconds(lambda: Lexicon(words)):.0f} ms")
    lexicon = Lexicon(words)
    lexicon.match("warm up")
    print(f"{'milliseconds a word':25} median  95 %  all in one call")
    for kind, errors in (("in the lexicon", 0), ("one error", 1), ("three errors", 3), ("ten errors", 10)):
        readings = [misread(word, errors, rng) for word in rng.choices(words, k=options.readings)]
        rows = [probabilities_of(word, np.random.default_rng(seed)) for seed, word in enumerate(readings)]
        for rule, max_distance in RULES.items():
            match = partial(lexicon.match_all, rule=rule, max_distance=max_distance, charset=CHARSET)
            single = [
                milliseconds(partial(match, [word], probabilities=[row]))
                for word, row in zip(readings, rows, strict=True)
            ]
            together = milliseconds(partial(match, readings, probabilities=rows)) / len(readings)
            print(f"{kind:15} {rule:9} {np.median(single):6.2f} {np.quantile(single, 0.95):6.2f} {together:6.2f}")


if __name__ == "__main__":
    main()
