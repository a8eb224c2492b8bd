"""How well cropped words are read: exact words, normalised edit distance (1-NED), character error rate."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .words import composed

__all__ = ["RecognitionResult", "WordRecognition", "letters_and_digits"]


def letters_and_digits(word: str) -> str:
    """Lower case with everything but ASCII letters, digits and Chinese characters removed, as mmocr compares words."""
    return re.sub(r"[^a-z0-9\u4e00-\u9fa5]", "", word.lower())


@dataclass(frozen=True)
class RecognitionResult:
    """Figures over all words.

    Args:
        accuracy: share of words read exactly.
        accuracy_ignore_case: the same without regard to case.
        one_minus_ned: mean over words of 1 - edit distance / length of the longer string.
        character_error_rate: edit distances over characters of the references; may exceed 1.
        words: number of words.
    """

    accuracy: float
    accuracy_ignore_case: float
    one_minus_ned: float
    character_error_rate: float
    words: int


class WordRecognition:
    """Compare read words with their references, one to one; composed and decomposed accents are alike.

    Args:
        normalize: applied to both before comparing, such as `letters_and_digits` or `str.lower`; by default nothing.
    """

    def __init__(self, normalize: Callable[[str], str] = str) -> None:
        self.normalize = normalize
        self.reset()

    def reset(self) -> None:
        """Forget all words."""
        self.pairs: list[tuple[str, str]] = []

    def update(self, references: Sequence[str], predictions: Sequence[str]) -> None:
        """Add words.

        Raises:
            ValueError: if the numbers differ.
        """
        if len(references) != len(predictions):
            raise ValueError(f"{len(references)} references for {len(predictions)} predictions; expected one for each")
        self.pairs += [
            (self.normalize(composed(reference)), self.normalize(composed(prediction)))
            for reference, prediction in zip(references, predictions, strict=True)
        ]

    def compute(self) -> RecognitionResult:
        """Figures over the words so far, 0 without any."""
        from rapidfuzz.distance import Levenshtein

        words, characters = max(1, len(self.pairs)), max(1, sum(len(reference) for reference, _ in self.pairs))
        return RecognitionResult(
            accuracy=sum(reference == prediction for reference, prediction in self.pairs) / words,
            accuracy_ignore_case=sum(one.lower() == other.lower() for one, other in self.pairs) / words,
            one_minus_ned=sum(Levenshtein.normalized_similarity(*pair) for pair in self.pairs) / words,
            character_error_rate=sum(Levenshtein.distance(*pair) for pair in self.pairs) / characters,
            words=len(self.pairs),
        )
