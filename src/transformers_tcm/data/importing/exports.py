"""What every format is read into, and how that becomes labels of photos in a folder."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...geometry import order_clockwise, signed_area
from ...icdar import is_illegible
from ...instances import TextInstances

__all__ = [
    "ExportedPhoto",
    "ExportedWord",
    "ImportedLabels",
    "flag",
    "ignoring",
    "import_photos",
    "is_usual_text_field",
    "match_name",
    "rectangle",
    "text_field_of",
    "word_or_none",
]

# What the field with the transcription is called, where there are several fields for text.
_TEXT_FIELDS = ("transcription", "text", "word")
_EXIF_ORIENTATION = 0x0112
# Of EXIF, those that exchange width and height.
_TURNED = (5, 6, 7, 8)


@dataclass(frozen=True)
class ExportedWord:
    """One region of an export.

    Args:
        name: what a person finds it by within its photo.
        points: (K, 2) pixels, as they come.
        text: `None` where unknown.
        ignore: it neither counts as found nor as missed.
        problem: why it cannot be taken over.
        marks: names of its labels, choices and checked boxes, by which words can be left out.
    """

    name: str
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    text: str | None = None
    ignore: bool = False
    problem: str | None = None
    marks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ExportedPhoto:
    """One photo of an export.

    Args:
        place: where in the export it is.
        names: paths or addresses it may have, the likeliest first.
        words: its words, given the width and height in pixels of the upright photo.
        size: width and height that the export says it has.
        problem: why it cannot be taken over.
    """

    place: str
    names: tuple[str, ...] = ()
    words: Callable[[int, int], Iterable[ExportedWord]] = lambda width, height: ()
    size: tuple[int, int] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ImportedLabels:
    """Photos and the text in them, what could not be taken over, a line for each problem, and all marks of words."""

    images: list[Path] = field(default_factory=list)
    annotations: list[TextInstances] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that no word is marked with."""
        known = {match_name(mark) for mark in self.marks}
        return [name for name in names if match_name(name) not in known]

    @property
    def summary(self) -> str:
        """One line: photos, words, and how many of them can be read and count."""
        words = [word for instances in self.annotations for word in (instances.texts or [])]
        ignored = sum(int(instances.ignored.sum()) for instances in self.annotations)
        empty = sum(not len(instances) for instances in self.annotations)
        without = f" ({empty} without any)" if empty else ""
        known = sum(word is not None for word in words)
        return f"{len(self.images)} photos{without}, {len(words)} words, {known} with text, {ignored} ignored"


def import_photos(photos: Iterable[ExportedPhoto], images: Path, reorder: bool = False) -> ImportedLabels:
    """Find the photos of an export and take over their words.

    A photo is looked for under its path in the export, then under ever shorter ends of that path, always within the
    folder. Outlines that run counter-clockwise are turned round, their first point stays.

    Args:
        photos: see `read_export`.
        images: folder of the photos.
        reorder: start every outline where upright text starts, whatever the labeller did (`geometry.order_clockwise`).

    Returns:
        What could be taken over, in the order of the export; the rest is in `problems`.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    if not images.is_dir():
        raise FileNotFoundError(f"no such folder: {images}")
    labels = ImportedLabels()
    places: dict[Path, str] = {}
    for photo in photos:
        path, problem = _find(photo, images)
        if path is not None and path in places:
            problem = f"{path} has labels already, those of {places[path]}"
        if path is None or problem is not None:
            labels.problems.append(f"{photo.place}: {problem}")
            continue
        places[path] = photo.place
        _take_over(photo, path, reorder, labels)
    return labels


def _take_over(photo: ExportedPhoto, path: Path, reorder: bool, labels: ImportedLabels) -> None:
    try:
        width, height = _upright_size(path)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        labels.problems.append(f"{photo.place}: {path} is no photo that can be read: {error}")
        return
    if photo.size not in (None, (width, height)):
        expected = " x ".join(map(str, photo.size or ()))
        message = f"{path} has {width} x {height} pixels, but the labels are for {expected}"
        labels.problems.append(f"{photo.place}: {message}; use the photos that were labelled")
        return
    labels.images.append(path)
    words = list(photo.words(width, height))
    labels.marks.update(mark for word in words for mark in word.marks)
    labels.annotations.append(_instances(photo.place, words, reorder, labels.problems))


def _find(photo: ExportedPhoto, images: Path) -> tuple[Path | None, str | None]:
    """Its file, or what is wrong."""
    if photo.problem is not None:
        return None, photo.problem
    for name in photo.names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "//", "..")]
        for start in range(len(parts)):
            path = images.joinpath(*parts[start:])
            try:
                if path.is_file():
                    return path, None
            # A name that no file can have.
            except (OSError, ValueError):
                continue
    return None, f"no photo {photo.names[0]!r} in {images}" if photo.names else "the photo has no name"


def _upright_size(path: Path) -> tuple[int, int]:
    """Width and height as `load_image` gives them, without decoding the photo."""
    with Image.open(path) as image:
        turned = image.getexif().get(_EXIF_ORIENTATION) in _TURNED
        return (image.height, image.width) if turned else (image.width, image.height)


def _instances(place: str, words: list[ExportedWord], reorder: bool, problems: list[str]) -> TextInstances:
    taken = []
    for word in words:
        problem = word.problem or _problem_of_points(word.points)
        if problem is None:
            taken.append(word)
        else:
            problems.append(f"{place}, {word.name}: {problem}")
    return TextInstances(
        [_ordered(word.points, reorder) for word in taken],
        texts=[word.text for word in taken],
        ignore=np.array([word.ignore or is_illegible(word.text or "") for word in taken], dtype=bool),
    )


def _problem_of_points(points: np.ndarray) -> str | None:
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        return f"an outline needs at least 3 points [x, y], got shape {points.shape}"
    with np.errstate(over="ignore"):
        finite = np.isfinite(points.astype(np.float32)).all()
    return None if finite else "a coordinate is NaN or infinite"


def _ordered(points: np.ndarray, reorder: bool) -> np.ndarray:
    if reorder:
        return order_clockwise(points)
    return points if signed_area(points) >= 0 else np.concatenate([points[:1], points[:0:-1]])


def rectangle(
    x: float, y: float, width: float, height: float, degrees: float, pivot: tuple[float, float]
) -> np.ndarray:
    """Corners (4, 2) in pixels, clockwise from what was the top-left one before the rectangle was turned.

    Args:
        x: of the left side before the turn.
        y: of the upper side before the turn.
        width: in pixels.
        height: in pixels.
        degrees: of the turn, clockwise as seen on the screen.
        pivot: the point that stays, relative to the rectangle: (0, 0) top-left corner, (0.5, 0.5) centre.
    """
    center = np.array(pivot) * [width, height]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - center
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    # y points down, so that this turns clockwise.
    return corners @ np.array([[cosine, sine], [-sine, cosine]]) + center + [x, y]


def word_or_none(text: object) -> str | None:
    """A transcription on one line, `None` if there is none."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)
    # JSON can hold halves of a surrogate pair, files cannot.
    line = " ".join(text.encode(errors="replace").decode().split()) if isinstance(text, str) else ""
    return line or None


def match_name(name: str) -> str:
    """The form in which names of labels, choices and checkboxes are compared."""
    return name.strip().casefold()


def ignoring(photos: list[ExportedPhoto], names: Collection[str]) -> list[ExportedPhoto]:
    """The same photos, where words with one of these marks do not count."""
    wanted = {match_name(name) for name in names}

    def marked(words: Callable[[int, int], Iterable[ExportedWord]]) -> Callable[[int, int], Iterable[ExportedWord]]:
        def read(width: int, height: int) -> Iterable[ExportedWord]:
            for word in words(width, height):
                matches = not wanted.isdisjoint(map(match_name, word.marks))
                yield replace(word, ignore=word.ignore or matches)

        return read

    return [replace(photo, words=marked(photo.words)) for photo in photos] if wanted else photos


def flag(value: object) -> bool:
    """A yes or no of a label file, in any spelling.

    Raises:
        ValueError: for anything else.
    """
    text = "false" if value is None else str(value).strip().casefold()
    if text in ("true", "yes", "y", "t", "on", "1", "1.0"):
        return True
    if text in ("false", "no", "n", "f", "off", "0", "0.0", ""):
        return False
    raise ValueError(f"{value!r}; expected true or false")


def is_usual_text_field(name: str) -> bool:
    """Whether a field is called as those with the transcription mostly are."""
    return name.strip().casefold() in _TEXT_FIELDS


def text_field_of(source: Path, fields: set[str], wanted: str | None) -> str | None:
    """The field of an export that holds the transcriptions; `None` if there is no field for text.

    Args:
        source: for messages.
        fields: names of all fields for text.
        wanted: the name that the user gives; by default the only field, or the one named so.

    Raises:
        ValueError: if there is no such field, or several could be meant.
    """
    candidates = sorted(fields)
    if wanted is not None:
        if wanted not in fields:
            raise ValueError(f"{source}: no text field {wanted!r}; there are {', '.join(candidates) or 'none'}")
        return wanted
    if len(candidates) > 1:
        candidates = [name for name in candidates if is_usual_text_field(name)]
        if len(candidates) != 1:
            names = ", ".join(sorted(fields))
            raise ValueError(f"{source}: several text fields, {names}; say which holds the words (--text-field)")
    return candidates[0] if candidates else None
