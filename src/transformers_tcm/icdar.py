"""The text files of robust reading competitions: a line of coordinates, and mostly a word, for each outline.

Those in circulation differ, and which one a file has is told from all of its lines:

1. Outlines `x1,y1,…,x4,y4[,word]` (ICDAR 2015), or with more points (CTW1500, Total-Text, ArT, results of curved text).
2. Boxes `left,top,right,bottom[,word]` (ICDAR 2013), where every line has four numbers in front.
3. A column beside the word, where every line has it: the script (MLT 2017 and 2019), 0 and 1 for difficult words
   (RCTW-17), which do not count, or the score of a result, a decimal number in [0, 1].

Commas, semicolons or blanks separate, a tab too. A word may hold commas and numbers. Five or more pairs of numbers are
an outline of as many points. With one pair more than a quad needs, `12,50` may be a point or a price: it is a point
where the file has longer outlines or no words at all, it is a word where it is not written like a coordinate (`1,000`)
or lies far away, otherwise an error, which quotes around the word settle. So are a word with a row of numbers in it,
as of two lines without a line end between them, and an outline that is one only without its first number.

Quotes are taken off as the official evaluation does (`\\"` is a quote, `\\\\` a backslash) or, where all of them are
doubled, as in CSV. So are the blanks outside of them, `####` in front of the word (CTW1500 in ABCNet's form), and byte
order marks, which joined files have anywhere. `###`, or more of it, marks what does not count.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .text_files import stripped

__all__ = ["ILLEGIBLE", "SCRIPTS", "IcdarFile", "IcdarLine", "icdar_line", "is_illegible", "parse_icdar", "quoted"]

ILLEGIBLE = "###"
# Of the script column of MLT 2017 and 2019, and of what was made in their form since.
SCRIPTS = frozenset(
    (
        *("arabic", "bangla", "chinese", "hindi", "japanese", "korean", "latin", "mixed", "none", "symbols"),
        *("cyrillic", "devanagari", "english", "greek", "gujarati", "gurmukhi", "hangul", "hebrew", "kannada"),
        *("malayalam", "odia", "oriya", "other", "others", "punjabi", "tamil", "telugu", "thai", "urdu"),
    )
)
# Not what `float` takes, to which "nan", "1_000" and digits of other scripts are numbers.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_FIRST_SEPARATOR = re.compile(r"[+-]?[0-9.]+(?:e[+-]?[0-9]+)?(\s*[,;\uff0c]|\s)", re.IGNORECASE)
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]")
_SCORE = re.compile(r"0?\.[0-9]+|[01]\.[0-9]+")
_LONG_SCORE = re.compile(r"[01]?\.[0-9]{3,}")
_FLAG = re.compile(r"[01]")
_IN_QUOTES = re.compile(r'"(.*)"', re.DOTALL)
_ESCAPED = re.compile(r'\\([\\"])')
_ILLEGIBLE = re.compile(r"[\"'\u2018\u2019\u201c\u201d]*\s*#{3,}\s*[\"'\u2018\u2019\u201c\u201d]*\s*[,;]?")
# A byte order mark in front of a line, or of what should have been one.
_JOINED = re.compile(r"\ufeff(?=\s*[+-]?[0-9.]+\s*[,;\uff0c\s])")
_SEPARATOR = "####"
# A point further from a quad than so many times its longer side does not continue its outline.
_FAR = 2.0
_QUAD = 8
_BOX = 4
# So many numbers in a row are no part of a word.
_ROW_OF_NUMBERS = 6
_EXPECTED = "expected `x1,y1,x2,y2,x3,y3,x4,y4,transcription`"
_OR_BOXES = ", or in all lines boxes `left,top,right,bottom,transcription`, words of digits in quotes"
_EXPECTED_BOX = (
    "expected `left,top,right,bottom` as four numbers, with right > left and bottom > top; widths and heights have "
    "to be turned into right and bottom first"
)
# Text fills so much of the smallest rectangle around it, a triangle half.
_RECTANGULAR, _TRIANGULAR = 0.85, 0.75


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
    """A line taken apart: where its fields start, and how many numbers are in front."""

    number: int
    line: str
    separator: str
    starts: list[int]
    fields: list[str]
    numbers: int

    def rest(self, start: int) -> str:
        """Everything behind the first `start` fields."""
        return stripped(self.line[self.starts[start] :]) if start < len(self.starts) else ""

    @property
    def has_word(self) -> bool:
        return bool(self.rest(self.numbers))

    def points(self, coordinates: int, start: int = 0) -> np.ndarray:
        return np.array([float(field) for field in self.fields[start : start + coordinates]]).reshape(-1, 2)


@dataclass(frozen=True)
class _Column:
    """What stands beside the word in every line: `name` says what it is, `last` whether it stands behind the word."""

    name: str
    last: bool = False

    def split(self, rest: str, separator: str) -> tuple[str, str]:
        """The entry of the column, and the word."""
        if self.last:
            word, _, entry = rest.rpartition(separator)
        else:
            entry, _, word = rest.partition(separator)
            # Words that do not count may lack their script.
            if self.name == "script" and entry.strip().casefold() not in SCRIPTS:
                entry, word = "", rest
        return entry.strip(), word


def parse_icdar(text: str) -> IcdarFile:
    """Read a file; see the module for its forms. Lines that cannot be read have a `problem` and keep their place."""
    taken_apart = [_take_apart(number, line) for number, line in _lines(text)]
    if _are_boxes(taken_apart):
        column = _column(taken_apart, _BOX)
        return IcdarFile([_box(line, column) for line in taken_apart], _with(column, "boxes `left,top,right,bottom`"))
    if column := _column(taken_apart, _QUAD):
        read = [_outline(line, _QUAD, column) for line in taken_apart]
        return IcdarFile(read, _with(column, "outlines of four points"))
    read = [_outline(line, _coordinates(line, taken_apart)) for line in taken_apart]
    counts = sorted({len(line.polygon) for line in read if line.problem is None} - {4})
    return IcdarFile(read, f"outlines of {', '.join(map(str, counts))} points" if counts else None)


def _with(column: _Column | None, form: str) -> str:
    return form if column is None else f"{form} with a column for the {column.name}"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """What is not blank, with its number."""
    # Not `splitlines`, which takes rare characters of a word for the end of a line.
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        yield from ((number, part) for part in map(stripped, _JOINED.split(line)) if part)


def is_illegible(word: str) -> bool:
    """Whether a word is `###`, in quotes, with blanks or a comma behind it, in wide letters, or longer."""
    # Most words hold neither.
    if not {"#", "\uff03"} & set(word):
        return False
    return _ILLEGIBLE.fullmatch(stripped(unicodedata.normalize("NFKC", word))) is not None


def quoted(word: str) -> str:
    """A word as `parse_icdar` reads it back: in quotes where it would be taken for something else without."""
    fields = [field.strip() for field in word.split(",")]
    first, *others = fields
    beside_others = bool(others) and (
        (_is_number(first) and (_is_number(others[0]) or _SCORE.fullmatch(first)))
        or (_FLAG.fullmatch(first) and not others[0][:1].isdigit())
        or first.casefold() in SCRIPTS
        or others[0].startswith('"')
        or _is_mark(fields[-1])
        or _row_of_numbers(word)
    )
    looks_otherwise = beside_others or _LONG_SCORE.fullmatch(first) is not None or "\t" in word
    if looks_otherwise or word != stripped(word) or _JOINED.search(word) or word.startswith((_SEPARATOR, '"')):
        return _in_quotes(word)
    return word


def icdar_line(coordinates: Sequence[str], word: str) -> str:
    """A line that `parse_icdar` reads back.

    Args:
        coordinates: x and y in turn, as they are to be written.
        word: empty where it is unknown.
    """
    line = _take_apart(0, ",".join([*coordinates, word]))
    misread = len(coordinates) == _QUAD and line.numbers > _QUAD and line.numbers % 2 and _starts_one_late(line)
    return ",".join([*coordinates, _in_quotes(word) if misread else quoted(word)])


def _in_quotes(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field) is not None


def _is_mark(field: str) -> bool:
    return _FLAG.fullmatch(field) is not None or _SCORE.fullmatch(field) is not None


def _row_of_numbers(text: str) -> bool:
    """Whether so many fields in a row are numbers as no word has."""
    length = 0
    for field in re.split(r"[,;\t]", text):
        length = length + 1 if _is_number(field.strip()) else 0
        if length == _ROW_OF_NUMBERS:
            return True
    return False


def _take_apart(number: int, line: str) -> _Fields:
    first = _FIRST_SEPARATOR.match(line)
    # ICDAR 2013 has blanks: 158 128 411 181 "Footpath"
    separator = "," if first is None else first[1].strip() or " "
    between = r"\s+" if separator == " " else rf"\s*{separator}\s*|\s*\t\s*"
    ends = list(re.finditer(between, line))
    starts = [0, *(end.end() for end in ends)]
    stops = [*(end.start() for end in ends), len(line)]
    fields = [line[start:stop] for start, stop in zip(starts, stops, strict=True)]
    count = 0
    for field in fields:
        if not (_is_number(field) or (count < _QUAD and _NOT_FINITE.fullmatch(field))):
            break
        count += 1
    return _Fields(number, line, separator, starts, fields, count)


def _are_boxes(lines: Sequence[_Fields]) -> bool:
    """Whether four numbers are in front of every line, before a word that may begin with others."""
    if not lines or any(not _BOX <= line.numbers < _QUAD for line in lines):
        return False
    if any(line.separator == " " for line in lines):
        # Numbers with blanks between them are too many things.
        return any(line.numbers == _BOX and line.has_word for line in lines)
    return any(line.numbers == _BOX for line in lines) or _column(lines, _BOX) is not None


def _column(lines: Sequence[_Fields], start: int) -> _Column | None:
    """What stands beside the word in every line, behind `start` coordinates."""
    if not lines:
        return None
    rests = [line.rest(start) for line in lines]
    if all(line.numbers == start for line in lines) and _scripts(lines, rests):
        return _Column("script")
    if all(line.numbers == start + 1 for line in lines):
        behind = [line.rest(start + 1) for line in lines]
        kind = _kind_of([line.fields[start] for line in lines])
        if kind and all(behind) and _are_words(behind):
            return _Column(kind)
        if kind == "score" and not any(behind) and start == _QUAD and any(map(_LONG_SCORE.fullmatch, rests)):
            return _Column(kind)
    last = [rest.rpartition(line.separator) for line, rest in zip(lines, rests, strict=True)]
    if len(lines) > 1 and any(line.numbers == start for line in lines) and all(word.strip() for word, *_ in last):
        kind = _kind_of([entry.strip() for *_, entry in last])
        return _Column(kind, last=True) if kind and lines[0].separator != " " else None
    return None


def _scripts(lines: Sequence[_Fields], rests: Sequence[str]) -> bool:
    """Whether every word that counts has its script in front."""
    parts = [rest.partition(line.separator) for line, rest in zip(lines, rests, strict=True)]
    named = [separator for first, separator, _ in parts if first.strip().casefold() in SCRIPTS]
    without = sum(not rest or is_illegible(rest) for rest in rests)
    # The last field alone would be a word such as "Latin".
    return bool(named) and all(named) and len(named) + without == len(rests)


def _are_words(behind: Sequence[str]) -> bool:
    """Whether what stands behind a number is no rest of it: "1,A" may be one word, and several may be "1,5 EUR"."""
    return all(word.startswith('"') for word in behind) or (
        len(behind) > 1 and any(not word[0].isdigit() for word in behind)
    )


def _kind_of(entries: Sequence[str]) -> str | None:
    if all(map(_FLAG.fullmatch, entries)):
        return "difficulty"
    # 1 and 0 are scores that were rounded.
    if all(map(_is_mark, entries)) and all(float(entry) <= 1 for entry in entries):
        return "score"
    return None


def _coordinates(line: _Fields, lines: Sequence[_Fields]) -> int | None:
    """How many of the numbers in front are coordinates; `None` where nobody can tell."""
    even = line.numbers - line.numbers % 2
    if even != _QUAD + 2:
        return even
    if any(_LEADING_ZERO.match(field) for field in line.fields[_QUAD:even]):
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


def _outline(line: _Fields, coordinates: int | None, column: _Column | None = None) -> IcdarLine:
    if coordinates is None:
        return _problem(line, "five points, or four and a word with a comma: put the word in quotes, or use JSON lines")
    if coordinates < _QUAD:
        return _problem(line, _EXPECTED + (_OR_BOXES if coordinates >= _BOX else ""))
    if column is None and line.numbers % 2 and _starts_one_late(line):
        remedy = "leave it out, or put the word in quotes"
        return _problem(line, f"a number such as an id stands in front of the outline: {remedy}")
    return _line(line, line.points(coordinates), line.rest(coordinates), column)


def _starts_one_late(line: _Fields) -> bool:
    """Whether an odd number of numbers is an outline without the first of them, and none without the last."""
    import shapely

    first, second = (line.points(line.numbers - 1, start) for start in (0, 1))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    outlines = shapely.polygons([shapely.linearrings(first), shapely.linearrings(second)])
    first_is_valid, second_is_valid = shapely.is_valid(outlines)
    if not (first_is_valid and second_is_valid) or len(first) > 4:
        return bool(second_is_valid and not first_is_valid)
    rectangles = [outline.minimum_rotated_rectangle.area for outline in outlines]
    if min(rectangles) == 0:
        return False
    filled = shapely.area(outlines) / rectangles
    return bool(filled[0] < _TRIANGULAR and filled[1] > _RECTANGULAR)


def _box(line: _Fields, column: _Column | None) -> IcdarLine:
    (left, top), (right, bottom) = line.points(_BOX)
    if not (right > left and bottom > top):
        return _problem(line, _EXPECTED_BOX)
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return _line(line, points, line.rest(_BOX), column)


def _line(line: _Fields, polygon: np.ndarray, rest: str, column: _Column | None) -> IcdarLine:
    entry, word = ("", rest) if column is None else column.split(rest, line.separator)
    ignore = column is not None and column.name == "difficulty" and entry == "1"
    word = stripped(word)
    if is_illegible(word):
        return IcdarLine(line.number, polygon, ILLEGIBLE, ignore=True)
    word = word.removeprefix(_SEPARATOR)
    if in_quotes := _IN_QUOTES.fullmatch(word):
        word = _unescaped(in_quotes[1])
    elif _row_of_numbers(word):
        remedy = "put a line end where the next one begins, or the word in quotes"
        return _problem(line, f"a row of numbers in the word, as if two lines were joined: {remedy}")
    return IcdarLine(line.number, polygon, word or None, ignore)


def _unescaped(text: str) -> str:
    quotes = text.count('"')
    if "\\" not in text and quotes and quotes == 2 * text.count('""'):
        return text.replace('""', '"')
    return _ESCAPED.sub(r"\1", text)


def _problem(line: _Fields, problem: str) -> IcdarLine:
    shown = line.line if len(line.line) <= 200 else f"{line.line[:200]}…"
    return IcdarLine(line.number, np.zeros((0, 2)), problem=f"{problem}, got {shown!r}")
