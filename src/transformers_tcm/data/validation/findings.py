"""What a validation reads and what it reports."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KINDS", "DatasetReport", "Finding", "LabelledPhoto", "LabelledWord"]

KINDS: dict[str, str] = {
    "missing-photo": "labels of a photo that is not there",
    "unreadable-photo": "photos that cannot be decoded",
    "missing-labels": "photos without labels",
    "unreadable-labels": "labels that cannot be read",
    "other-layout": "labels of another form than x1,y1,x2,y2,x3,y3,x4,y4,word: are they meant as they are read?",
    "too-few-points": "outlines of fewer than three points",
    "not-finite": "outlines with a coordinate that is NaN or infinite",
    "too-many-points": "outlines of thousands of points, as masks are turned into",
    "zero-area": "outlines that enclose nothing",
    "self-intersection": "outlines that cross or touch themselves",
    "outside-photo": "outlines that leave the photo",
    "counter-clockwise": "outlines that run counter-clockwise; clockwise from the start of the word is expected",
    "reading-start": "outlines that do not start at the start of the word",
    "empty-word": "words that are empty; ### marks what cannot be read",
    "missing-word": "outlines without a word, among others that have one",
    "odd-word": "words that look like coordinates, a column of the file or a mark",
    "duplicate-word": "words labelled twice",
    "duplicate-photo": "photos that are there twice",
}


@dataclass(frozen=True, eq=False)
class LabelledWord:
    """One outline as the file has it, sound or not.

    Args:
        line: of the file of labels, from 1.
        number: among the words of that line, from 1; `None` where a line holds one word.
        polygon: (K, 2) float64 pixels, of any K, possibly NaN.
        text: `None` where unknown.
        ignore: it neither counts as found nor as missed.
    """

    line: int
    number: int | None
    polygon: np.ndarray
    text: str | None = None
    ignore: bool = False

    @property
    def name(self) -> str:
        """What a person finds it by within the labels of its photo."""
        return f"line {self.line}" if self.number is None else f"word {self.number}"


@dataclass(frozen=True, eq=False)
class LabelledPhoto:
    """A photo that exists, its file of labels, the line there where the file has other photos too, and its words."""

    image: Path
    labels: Path
    words: list[LabelledWord]
    line: int | None = None


@dataclass(frozen=True)
class Finding:
    """One problem.

    Args:
        kind: one of `KINDS`.
        file: what has to be mended: a file of labels or a photo.
        message: what is wrong, and of what size.
        line: of the file of labels, from 1.
        photo: `None` where there is none.
        word: `None` where the problem is that of a line, a file or a photo.
    """

    kind: str
    file: Path
    message: str
    line: int | None = None
    photo: LabelledPhoto | None = None
    word: LabelledWord | None = None

    @property
    def place(self) -> str:
        """File, line and word, as in `labels.jsonl, line 3, word 2`."""
        parts = [str(self.file)] if self.line is None else [str(self.file), f"line {self.line}"]
        return ", ".join(parts if self.word is None or self.word.number is None else [*parts, self.word.name])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "kind": self.kind,
            "file": str(self.file),
            "line": self.line,
            "word": None if self.word is None else self.word.number,
            "photo": None if self.photo is None else str(self.photo.image),
            "message": self.message,
        }


@dataclass(frozen=True)
class DatasetReport:
    """Everything found in a set of labelled photos, `findings` in the order of `KINDS`, then of the files."""

    photos: list[LabelledPhoto]
    findings: list[Finding] = field(default_factory=list)

    def without(self, kinds: set[str]) -> "DatasetReport":
        """The report without the findings of some kinds."""
        return DatasetReport(self.photos, [finding for finding in self.findings if finding.kind not in kinds])

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind that was found."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if kind in found}

    @property
    def summary(self) -> str:
        """One line: how much was looked at, how much was found."""
        words = sum(len(photo.words) for photo in self.photos)
        empty = sum(not photo.words for photo in self.photos)
        looked_at = f"{len(self.photos)} photos with {words} words" + (
            f", {empty} of them without any" if empty else ""
        )
        return f"{looked_at}: {len(self.findings)} problems" if self.findings else f"{looked_at}: no problem found"

    def to_text(self) -> str:
        """The findings grouped by kind, a line for each with file, line and word; then the summary."""
        groups = []
        for kind, count in self.counts.items():
            found = [f"  {finding.place}: {finding.message}" for finding in self.findings if finding.kind == kind]
            groups.append("\n".join([f"{kind} ({count}): {KINDS[kind]}", *found, ""]))
        return "\n".join([*groups, self.summary])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "photos": len(self.photos),
            "words": sum(len(photo.words) for photo in self.photos),
            "counts": self.counts,
            "findings": [finding.to_dict() for finding in self.findings],
        }
