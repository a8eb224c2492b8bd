"""Labels read line by line: what cannot be read becomes a finding, and the next line is read."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...icdar import is_illegible, parse_icdar
from ...images import find_file, list_images
from ...text_files import read_text
from .findings import Finding, LabelledPhoto, LabelledWord

__all__ = ["read_icdar2015_labels", "read_jsonl_labels"]

Labels = tuple[list[LabelledPhoto], list[Finding]]


def read_icdar2015_labels(
    images: str | os.PathLike[str], annotations: str | os.PathLike[str], include: str | os.PathLike[str] | None = None
) -> Labels:
    """Photos with labels in the ICDAR-2015 text format, and what is wrong with the files.

    Args:
        images: folder of the photos.
        annotations: folder of the labels, `gt_NAME.txt` for each photo.
        include: text file with the names of the photos to look at, with or without suffix; by default all, and all
            files of labels.

    Returns:
        The photos that exist, sorted by name, with what can be read of their labels; and the findings so far.

    Raises:
        FileNotFoundError: if a folder or the list is missing, or there is neither a photo nor a file of labels.
    """
    images, annotations = Path(images), Path(annotations)
    for folder in (images, annotations):
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder: {folder}")
    photos = list_images(images)
    if include is None:
        findings = _orphans(annotations, photos)
    else:
        photos, findings = _included(photos, Path(include), images)
    if not photos and not findings:
        raise FileNotFoundError(f"there is neither a photo in {images} nor a file gt_NAME.txt in {annotations}")
    read = [_read_icdar_file(photo, annotations / f"gt_{photo.stem}.txt", findings) for photo in photos]
    return read, findings


def _orphans(annotations: Path, photos: list[Path]) -> list[Finding]:
    """Files of labels without a photo."""
    stems = {path.stem for path in photos}
    labels = [path for path in sorted(annotations.glob("gt_*.txt")) if path.stem.removeprefix("gt_") not in stems]
    return [Finding("missing-photo", path, "there is no photo of that name") for path in labels]


def _included(photos: list[Path], listing: Path, images: Path) -> tuple[list[Path], list[Finding]]:
    """The photos of a list, and what the list has beyond them."""
    names = [line.strip() for line in read_text(listing).split("\n")]
    known = {name for path in photos for name in (path.name, path.stem)}
    findings = [
        Finding("missing-photo", listing, f"{name} is not in {images}", number)
        for number, name in enumerate(names, start=1)
        if name and name not in known
    ]
    return [path for path in photos if not {path.name, path.stem}.isdisjoint(names)], findings


def _read_icdar_file(photo: Path, path: Path, findings: list[Finding]) -> LabelledPhoto:
    labelled = LabelledPhoto(photo, path, [])
    found = find_file(path)
    if found is None:
        near = [path.with_name(name) for name in (f"{photo.stem}.txt", f"res_{photo.stem}.txt")]
        hint = "".join(f"; {other.name} is there: rename it" for other in near if other.is_file())
        findings.append(Finding("missing-labels", photo, f"expected {path}{hint}", photo=labelled))
        return labelled
    read = parse_icdar("\n".join(_read_lines(found, findings, labelled)))
    for line in read.lines:
        if line.problem is not None:
            findings.append(Finding("unreadable-labels", found, _shortened(line.problem, 200), line.number, labelled))
        else:
            # As the loaders keep them.
            polygon = line.polygon.astype(np.float32).astype(np.float64)
            labelled.words.append(LabelledWord(line.number, None, polygon, line.text, line.ignore))
    if read.layout is not None:
        findings.append(Finding("other-layout", found, f"read as {read.layout}", photo=labelled))
    return labelled


def read_jsonl_labels(path: str | os.PathLike[str], images: str | os.PathLike[str] | None = None) -> Labels:
    """Photos with labels in a JSON-lines file, as `load_jsonl` reads it, and what is wrong with the file.

    Args:
        path: the file.
        images: folder of photos which all have to be in the file.

    Returns:
        The photos that exist, in the order of the file, with what can be read of their labels; and the findings so far.

    Raises:
        FileNotFoundError: if the file or the folder is missing, or the file is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"no such folder: {images}")
    photos: list[LabelledPhoto] = []
    findings: list[Finding] = []
    for number, line in enumerate(_read_lines(path, findings), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                findings.append(Finding("unreadable-labels", path, f"no JSON: {error}", number))
                continue
            photos += _read_row(row, path, number, findings)
    if not photos and not findings:
        raise FileNotFoundError(f"{path} is empty; expected a line of JSON for each photo")
    if images is not None:
        listed = {photo.image.resolve() for photo in photos}
        unlisted = [photo for photo in list_images(images) if photo.resolve() not in listed]
        findings += [Finding("missing-labels", photo, f"not in {path}") for photo in unlisted]
    return photos, findings


def _read_row(row: Any, path: Path, number: int, findings: list[Finding]) -> list[LabelledPhoto]:
    """The photo of a line, if it is there."""
    if not isinstance(row, dict) or not isinstance(row.get("image"), str) or not isinstance(row.get("polygons"), list):
        message = 'expected an object with "image" (a path) and "polygons" (a list)'
        findings.append(Finding("unreadable-labels", path, message, number))
        return []
    image = find_file(path.parent / row["image"])
    if image is None:
        image = path.parent / row["image"]
        findings.append(Finding("missing-photo", path, f"no such photo: {str(image)!r}", number))
        return []
    photo = LabelledPhoto(image, path, [], number)
    columns: list[list[Any]] = [row["polygons"]]
    for name, default in (("texts", None), ("ignore", False)):
        column = row.get(name)
        if column is not None and (not isinstance(column, list) or len(column) != len(columns[0])):
            message = f'"{name}" has to be a list with one entry for each of the {len(columns[0])} polygons'
            findings.append(Finding("unreadable-labels", path, message, number, photo))
            column = None
        columns.append([default] * len(columns[0]) if column is None else column)
    if row.get("ignore") is None:
        # As the loader does.
        columns[2] = [isinstance(text, str) and is_illegible(text) for text in columns[1]]
    for index, values in enumerate(zip(*columns, strict=True), start=1):
        try:
            photo.words.append(_read_word(number, index, *values))
        except (ValueError, TypeError, OverflowError) as error:
            findings.append(Finding("unreadable-labels", path, f"word {index}: {error}", number, photo))
    return [photo]


def _read_word(line: int, number: int, points: Any, text: Any, ignore: Any) -> LabelledWord:
    if not isinstance(points, list):
        raise TypeError(f"a polygon is a list of points, not {_shortened(points)}")
    polygon = np.array(points, dtype=np.float64) if points else np.zeros((0, 2))
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise ValueError(f"a polygon is a list of points [x, y], got shape {polygon.shape}")
    if not isinstance(text, str | None):
        raise TypeError(f"a word is a string or null, not {_shortened(text)}")
    if not isinstance(ignore, bool | int):
        raise TypeError(f'"ignore" is true or false, not {_shortened(ignore)}')
    return LabelledWord(line, number, polygon, text, bool(ignore))


def _read_lines(path: Path, findings: list[Finding], photo: LabelledPhoto | None = None) -> list[str]:
    """The lines of a text file; none if it cannot be read."""
    try:
        # Not `splitlines`, which takes rare characters of a word for the end of a line.
        return read_text(path).split("\n")
    except (OSError, ValueError) as error:
        findings.append(Finding("unreadable-labels", path, str(error).removeprefix(f"{path}: "), photo=photo))
        return []


def _shortened(value: Any, longest: int = 80) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
