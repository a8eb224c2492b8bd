"""The text files of robust reading competitions: a line of coordinates, and mostly a word, for each outline.

Those in circulation differ, and which one a file has is told from all of its lines:

1. Outlines `x1,y1,…,x4,y4[,word]` (ICDAR 2015), or with more points (CTW1500, Total-Text, ArT, results of curved text).
2. Boxes `left,top,right,bottom[,word]` (ICDAR 2013), where every line has four numbers in front; blanks may separate.
3. A column between outline and word, where every line has it: the script (MLT 2017 and 2019), or 0 and 1 for difficult
   words (RCTW-17), which do not count.

A word may hold commas and numbers. Five or more pairs of numbers are an outline of as many points. With one pair more
than a quad needs, `12,50` may be a point or a price: it is a point where the file has longer outlines or no words at
all, it is a word where it is not written like a coordinate (`1,000`) or lies far away, otherwise an error, which quotes
around the word settle. Quotes are taken off as the official evaluation does (`\\"` is a quote, `\\\\` a backslash), as
are the blanks outside of them, `####` in front of the word (CTW1500 in ABCNet's form), and byte order marks at the
beginning of any line, which joined files have. `###`, or more of it, marks what does not count.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["ILLEGIBLE", "SCRIPTS", "IcdarFile", "IcdarLine", "is_illegible", "parse_icdar", "quoted"]

ILLEGIBLE = "###"
# Of the script column of MLT 2017 and 2019.
SCRIPTS = frozenset(("arabic", "bangla", "chinese", "hindi", "japanese", "korean", "latin", "mixed", "none", "symbols"))
# Not what `float` takes, to which "nan", "1_000" and digits of other scripts are numbers.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_BLANKS_FIRST = re.compile(r"[+-]?[0-9.]+\s+[+-]?[0-9.]+\s")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_IN_QUOTES = re.compile(r'"(.*)"', re.DOTALL)
_ILLEGIBLE = re.compile(r"[\"'\u2018\u2019\u201c\u201d]*\s*#{3,}\s*[\"'\u2018\u2019\u201c\u201d]*")
_SEPARATOR = "####"
# A point further from a quad than so many times its longer side does not continue its outline.
_FAR = 2.0
_QUAD = 8
_EXPECTED = "expected `x1,y1,x2,y2,x3,y3,x4,y4,transcription`"


@dataclass(frozen=True)
class IcdarLine:
    """One line that is not blank.

    Args:
        number: from 1.
        polygon: (K, 2) float64, of which some may not be finite; (0, 2) where there is a problem.
        text: `None` where unknown.
        ignore: it neither counts as found nor as missed.
        problem: why it cannot be read.
    """

    number: int
    polygon: np.ndarray
    text: str | None = None
    ignore: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class IcdarFile:
    """All lines, and how they were understood where that is another form than ICDAR 2015's, otherwise `None`."""

    lines: list[IcdarLine]
    layout: str | None = None


@dataclass(frozen=True)
class _Fields:
    """A line taken apart: the numbers in front, as written, and all fields with the separator they had."""

    number: int
    line: str
    fields: list[str]
    separator: str
    numbers: int

    def rest(self, start: int) -> str:
        """Everything behind the first `start` fields."""
        return self.separator.join(self.fields[start:]).strip()

    @property
    def has_word(self) -> bool:
        return bool(self.rest(self.numbers))

    def points(self, coordinates: int) -> np.ndarray:
        return np.array([float(field) for field in self.fields[:coordinates]]).reshape(-1, 2)


def parse_icdar(text: str) -> IcdarFile:
    """Read a file; see the module for its forms. Lines that cannot be read have a `problem` and keep their place."""
    # Not `splitlines`, which takes rare characters of a word for the end of a line.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    stripped = ((number, line.strip().lstrip("\ufeff").strip()) for number, line in enumerate(lines, start=1))
    taken_apart = [_take_apart(number, line) for number, line in stripped if line]
    if _are_boxes(taken_apart):
        return IcdarFile([_box(line) for line in taken_apart], "boxes `left,top,right,bottom`")
    if column := _column(taken_apart):
        read = [_outline(line, _QUAD, column) for line in taken_apart]
        return IcdarFile(read, f"outlines of four points with a column for the {column}")
    read = [_outline(line, _coordinates(line, taken_apart)) for line in taken_apart]
    counts = sorted({len(line.polygon) for line in read if line.problem is None} - {4})
    return IcdarFile(read, f"outlines of {', '.join(map(str, counts))} points" if counts else None)


def is_illegible(word: str) -> bool:
    """Whether a word is `###`, in quotes or with blanks, or longer."""
    return _ILLEGIBLE.fullmatch(word.strip()) is not None


def quoted(word: str) -> str:
    """A word as `parse_icdar` reads it back: in quotes where it would be taken for something else without."""
    first, _, rest = word.partition(",")
    field, second = first.strip(), rest.partition(",")[0].strip()
    numbers = _is_number(field) and _is_number(second)
    looks_otherwise = bool(rest) and (numbers or field.casefold() in SCRIPTS or rest.lstrip().startswith('"'))
    if looks_otherwise or word != word.strip().lstrip("\ufeff") or word.startswith((_SEPARATOR, '"')):
        escaped = word.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return word


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field) is not None


def _take_apart(number: int, line: str) -> _Fields:
    if _BLANKS_FIRST.match(line):
        # ICDAR 2013: 158 128 411 181 "Footpath"
        separator, fields = " ", line.split()
    else:
        separator, fields = ",", line.split(",")
    count = 0
    for field in map(str.strip, fields):
        if not (_is_number(field) or (count < _QUAD and _NOT_FINITE.fullmatch(field))):
            break
        count += 1
    return _Fields(number, line, fields, separator, count)


def _are_boxes(lines: Sequence[_Fields]) -> bool:
    """Whether four numbers are in front of every line, which a fifth may follow that is a word."""
    if not lines or any(not 4 <= line.numbers <= 5 for line in lines):
        return False
    if all(line.separator == "," for line in lines):
        return any(line.numbers == 4 for line in lines)
    # Numbers with blanks between them are too many things.
    return any(line.numbers == 4 and line.has_word for line in lines)


def _column(lines: Sequence[_Fields]) -> str | None:
    """What stands between outline and word in every line."""
    if lines and all(line.numbers == _QUAD and _first(line.rest(_QUAD)).casefold() in SCRIPTS for line in lines):
        # The last field alone would be a word such as "Latin".
        return "script" if all("," in line.rest(_QUAD) for line in lines) else None
    if lines and all(line.numbers == _QUAD + 1 and line.fields[_QUAD].strip() in ("0", "1") for line in lines):
        return "difficulty" if all(line.rest(_QUAD + 1).startswith('"') for line in lines) else None
    return None


def _first(rest: str) -> str:
    return rest.partition(",")[0].strip()


def _coordinates(line: _Fields, lines: Sequence[_Fields]) -> int | None:
    """How many of the numbers in front are coordinates; `None` where nobody can tell."""
    even = line.numbers - line.numbers % 2
    if even != _QUAD + 2:
        return even
    if any(_LEADING_ZERO.match(field.strip()) for field in line.fields[_QUAD:even]):
        return _QUAD
    points = line.points(even)
    low, high = points[:4].min(axis=0), points[:4].max(axis=0)
    reach = _FAR * (high - low).max()
    if (points[4] < low - reach).any() or (points[4] > high + reach).any():
        return _QUAD
    others = [other for other in lines if other is not line]
    longer = any(other.numbers >= _QUAD + 4 for other in others)
    without_words = not any(other.has_word or other.numbers % 2 for other in lines)
    five_with_word = all(other.numbers == even and other.has_word for other in lines)
    return even if longer or without_words or five_with_word else None


def _outline(line: _Fields, coordinates: int | None, column: str | None = None) -> IcdarLine:
    if coordinates is None:
        return _problem(line, "five points, or four and a word with a comma: put the word in quotes, or use JSON lines")
    if coordinates < _QUAD:
        return _problem(line, _EXPECTED)
    rest = line.rest(coordinates)
    ignore = False
    if column is not None:
        first, _, rest = rest.partition(",")
        ignore = column == "difficulty" and first.strip() == "1"
    return _line(line, line.points(coordinates), rest, ignore)


def _box(line: _Fields) -> IcdarLine:
    (left, top), (right, bottom) = line.points(4)
    if not (right > left and bottom > top):
        return _problem(line, "expected `left,top,right,bottom` as four numbers, with right > left and bottom > top")
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _line(line, points, line.rest(4), ignore=False)


def _line(line: _Fields, polygon: np.ndarray, rest: str, ignore: bool) -> IcdarLine:
    word = rest.strip()
    if is_illegible(word):
        return IcdarLine(line.number, polygon, ILLEGIBLE, ignore=True)
    word = word.removeprefix(_SEPARATOR)
    if in_quotes := _IN_QUOTES.fullmatch(word):
        word = re.sub(r'\\([\\"])', r"\1", in_quotes[1])
    return IcdarLine(line.number, polygon, word or None, ignore)


def _problem(line: _Fields, problem: str) -> IcdarLine:
    return IcdarLine(line.number, np.zeros((0, 2)), problem=f"{problem}, got {line.line!r}")
