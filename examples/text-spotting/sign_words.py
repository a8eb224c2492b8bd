"""Write a list of words as they stand on signs: words of a language, some with punctuation or joined, prices, codes.

Renderers draw what a list holds (`python -m transformers_tcm.data.synthetic --words signs.txt`, or `--train_rendered`),
and a spotter learns to read what was drawn. Lists of English words have no house numbers, plates and addresses.

    python sign_words.py --words english.txt --crops lists/train.tsv --count 40000 --output signs.txt

`--words` has a line `word` or `word<tab>frequency` for each word, drawn by the root of its frequency; `--crops` are
lists of word crops, see `load_word_crops`, whose words were seen in photos.
"""

import argparse
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from run_language_model import load_frequencies

from transformers_tcm.data.rendering.words import street_words
from transformers_tcm.data.synthetic import PRINTABLE_ASCII
from transformers_tcm.data.word_crops import load_word_crops

LONGEST = 18
# Shares of the kinds of words, see `SignWords.draw`.
KINDS = {
    "word": 50,
    "seen": 10,
    "punctuated": 13,
    "joined": 4,
    "code": 16,
    "code, punctuated": 2,
    "letter": 2,
    "initials": 3,
}
ENDS = (",", ",", ",", ".", ".", ":", ":", "!", "?", "'s", "'S", "!!", "...", ";", "-", "*")
AROUND = ("({})", "({})", '"{}"', "'{}'", "({}", "{})", '"{}', '{}"')
ALONE = ("&", "-", "@", "+", "#", "/", "*", ".")
UNITS = ("m", "km", "kg", "g", "ml", "cm", "L", "GB", "W", "V", "st", "nd", "rd", "th", "mm")


class SignWords:
    """Draws words.

    Args:
        frequencies: how often each word of a language is used.
        seen: words that were seen in photos.
        seed: of the draws.
    """

    def __init__(self, frequencies: Mapping[str, int], seen: Sequence[str], seed: int = 0):
        self.random = Random(seed)
        self.words = [word for word in frequencies if set(word) <= set(PRINTABLE_ASCII)]
        self.weights = [frequencies[word] ** 0.5 for word in self.words]
        self.seen = [word for word in seen if set(word) <= set(PRINTABLE_ASCII)] or self.words
        self.street = street_words()

    def draw(self) -> str:
        """A word of one of `KINDS`."""
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        match kind:
            case "word":
                return self._word()
            case "seen":
                return self.random.choice(self.seen)
            case "punctuated":
                return self._punctuated(self._word())
            case "joined":
                return self._word() + self.random.choice("-/&-") + self._word()
            case "code":
                return self._code()
            case "code, punctuated":
                return self._punctuated(self._code())
            case "letter":
                return self.random.choice(string.ascii_letters + string.digits + "&&")
        return self._capitals(2, 4)

    def _word(self) -> str:
        """Three of five are those of the language, the rest those of streets."""
        if self.random.random() < 0.6:
            return self.random.choices(self.words, self.weights)[0]
        return self.random.choice(self.street)

    def _punctuated(self, word: str) -> str:
        kind = self.random.random()
        if kind < 0.83:
            return word + self.random.choice(ENDS)
        if kind < 0.92:
            return self.random.choice(AROUND).format(word)
        return self.random.choice(ALONE) + (word if self.random.random() < 0.2 else "")

    def _code(self) -> str:
        """A number of a house, a flat or a phone, a plate, a price, a time, a date, a measure, an address."""
        digits, between, choice = self._digits, self.random.randint, self.random.choice
        forms = (
            lambda: f"#{between(1, 29):02d}-{between(1, 299):02d}",
            lambda: f"#{choice(['B', ''])}{between(1, 4)}-{digits(between(2, 3))}",
            lambda: f"{digits(3)}-{digits(4)}",
            lambda: f"{digits(4)}{choice(['', '-', '.'])}{digits(4)}",
            lambda: self._capitals(1, 3) + choice(["", "-"]) + digits(between(1, 4)) + choice(["", "", "A", "B", "X"]),
            lambda: f"{choice(['$', 'S$', 'US$', 'EUR'])}{between(1, 399)}{choice(['', '.00', '.90', '.50', '.99'])}",
            lambda: f"{between(0, 23)}:{between(0, 59):02d}{choice(['', '', 'am', 'pm', 'AM', 'h'])}",
            lambda: f"{between(1, 99)}%",
            lambda: choice("./-").join([digits(between(1, 2)), digits(2), choice(["20", "19", ""]) + digits(2)]),
            lambda: f"{between(1, 998)}{choice(UNITS)}",
            lambda: f"www.{self._word()}.{choice(['com', 'org', 'com.sg', 'net', 'co.uk', 'de'])}",
            lambda: f"{self._word()}@{self._word()}.{choice(['com', 'org', 'net'])}",
            lambda: f"(0{digits(2)}){digits(4)}",
            lambda: f"+{digits(2)}-{digits(3)}",
            lambda: f"{between(1, 12)}-{between(1, 12)}pm",
            lambda: digits(between(1, 6)),
        )
        return choice(forms)()

    def _digits(self, count: int) -> str:
        return "".join(self.random.choices(string.digits, k=count))

    def _capitals(self, fewest: int, most: int) -> str:
        return "".join(self.random.choices(string.ascii_uppercase, k=self.random.randint(fewest, most)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=Path, required=True, help="words of a language, with or without frequencies")
    parser.add_argument("--crops", type=Path, nargs="*", default=[], help="lists of word crops")
    parser.add_argument("--count", type=int, default=40000, help="words to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    seen = [crop.text for path in arguments.crops for crop in load_word_crops(path)]
    words = SignWords(load_frequencies(arguments.words), seen, arguments.seed)
    chosen: list[str] = []
    while len(chosen) < arguments.count:
        word = words.draw()
        chosen += [word] if len(word) <= LONGEST else []
    arguments.output.write_text("\n".join(chosen) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
