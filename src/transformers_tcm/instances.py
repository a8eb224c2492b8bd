"""`Instances`, `TextInstances` with their words, `OrientedInstances`: what is in one image, the one currency outside of
models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from . import geometry
from .coco import coco_ignored, coco_objects, coco_outline, coco_word
from .dota import parse_dota, parse_yolo_obb
from .icdar import ILLEGIBLE, icdar_line, parse_icdar

__all__ = ["ILLEGIBLE", "Instances", "OrientedInstances", "TextInstances"]

# Of an object's area, what lies in the image or patch that it belongs to (DOTA).
SHARE_INSIDE = 0.7


@dataclass
class Instances:
    """The instances of one image: outlines, and what is known of each.

    Args:
        polygons: one (K_i, 2) float32 array of x, y pixels for each instance, K_i >= 3, clockwise from the top-left
            corner of the reading direction.
        scores: detection confidence (N,) in [0, 1].
        labels: (N,) int64 class indices.
        ignore: (N,) bool, `True` for regions that neither count as found nor as missed.

    Raises:
        ValueError: if the fields differ in length, a polygon is not (K >= 3, 2) or not finite, or a score is NaN.
        TypeError: if a field holds something else than the above.
    """

    polygons: list[np.ndarray]
    scores: np.ndarray | None = None
    labels: np.ndarray | None = field(default=None, kw_only=True)
    ignore: np.ndarray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_sequence("polygons", self.polygons)
        self.polygons = [_checked_polygon(index, polygon) for index, polygon in enumerate(self.polygons)]
        for name, values in self._per_instance():
            setattr(self, name, self._checked(name, values))
        for name, values in self._per_instance():
            if len(values) != len(self.polygons):
                raise ValueError(f"`{name}` has {len(values)} entries for {len(self.polygons)} polygons")

    def _checked(self, name: str, values: Any) -> Any:
        """A field as it is kept, or an error that names it."""
        checks = {"labels": _checked_labels, "ignore": _checked_flags}
        return checks[name](values) if name in checks else _checked_scores(name, values)

    def _per_instance(self) -> list[tuple[str, Any]]:
        """The fields that are present, polygons left out."""
        present = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "polygons")
        return [(name, values) for name, values in present if values is not None]

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def boxes(self) -> np.ndarray:
        """Axis-aligned boxes (N, 4) as x_min, y_min, x_max, y_max."""
        return np.array([geometry.bounding_box(polygon) for polygon in self.polygons], np.float32).reshape(-1, 4)

    @property
    def ignored(self) -> np.ndarray:
        """`ignore`, or (N,) `False` where it is not given."""
        return np.zeros(len(self), dtype=bool) if self.ignore is None else self.ignore

    def select(self, which: Sequence[int] | np.ndarray) -> Self:
        """The instances of a list of indices or of a boolean mask (N,), in that order."""
        indices = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, dtype=np.int64)
        chosen: dict[str, Any] = {
            name: values[indices] if isinstance(values, np.ndarray) else [values[i] for i in indices]
            for name, values in self._per_instance()
        }
        return type(self)([self.polygons[i] for i in indices], **chosen)

    def with_polygons(self, polygons: list[np.ndarray]) -> Self:
        """The same instances with other outlines, each (K, 2)."""
        return type(self)(polygons, **dict(self._per_instance()))

    def scale(self, x: float, y: float) -> Self:
        """Multiply the coordinates, as a resize of the image does."""
        return self.with_polygons([polygon * np.array([x, y], np.float32) for polygon in self.polygons])

    def transform(self, matrix: np.ndarray) -> Self:
        """Apply an affine (2, 3) or projective (3, 3) matrix."""
        return self.with_polygons([geometry.transform_points(polygon, matrix) for polygon in self.polygons])

    def clip(self, width: float, height: float) -> Self:
        """Cut polygons at the image's border and drop those that lie outside."""
        clipped = [geometry.clip_polygon(polygon, width, height) for polygon in self.polygons]
        inside = np.array([polygon is not None for polygon in clipped], dtype=bool)
        return self.select(inside).with_polygons([polygon for polygon in clipped if polygon is not None])

    def to_json(self) -> dict[str, list[Any]]:
        """Plain lists for `json.dumps`; absent fields are left out. `from_json` reads them back."""
        plain: dict[str, list[Any]] = {"polygons": [polygon.tolist() for polygon in self.polygons]}
        for name, values in self._per_instance():
            plain[name] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`; other keys (`image`, …) are left alone.

        Raises:
            ValueError: if there are no `polygons`, or the fields do not fit together.
            TypeError: if `plain` is no dictionary, or a field holds something else than `to_json` writes.
        """
        if not isinstance(plain, Mapping):
            raise TypeError(f"expected a dictionary with `polygons`, got {type(plain).__name__}")
        if plain.get("polygons") is None:
            raise ValueError(f"expected `polygons`, got {sorted(plain)}")
        names = [field.name for field in fields(cls)]
        return cls(**{name: plain[name] for name in names if plain.get(name) is not None})


@dataclass
class TextInstances(Instances):
    """The text instances of one image.

    Args:
        polygons, scores, labels, ignore: as in `Instances`.
        texts: one string for each instance, `None` where the transcription is unknown.
        text_scores: recognition confidence (N,) in [0, 1].

    Raises:
        ValueError: as in `Instances`.
        TypeError: as in `Instances`, and for texts that are no strings.
    """

    texts: list[str | None] | None = None
    text_scores: np.ndarray | None = None

    def _checked(self, name: str, values: Any) -> Any:
        return _checked_texts(values) if name == "texts" else super()._checked(name, values)

    @classmethod
    def from_detections(cls, detections: Sequence[Mapping[str, Any]]) -> "TextInstances":
        """What a pipeline gives for an image: a dict with `polygon` and `score` for each instance.

        Those of `pipeline("text-spotting")` also have `text` and `text_score`; without any, `texts` is `None`.
        """
        present = {name for one in detections for name in one}
        return cls(
            [one["polygon"] for one in detections],
            scores=np.array([one["score"] for one in detections]),
            texts=[one.get("text") for one in detections] if "text" in present else None,
            text_scores=np.array([one["text_score"] for one in detections]) if "text_score" in present else None,
        )

    @classmethod
    def from_coco(cls, annotations: Any) -> "TextInstances":
        """Words of objects with `bbox` and `segmentation`, in one of the forms of `transformers_tcm.coco`.

        Raises:
            ValueError: naming the object that has no outline.
            TypeError: for anything but objects.
        """
        objects = coco_objects(annotations)
        polygons = []
        for number, one in enumerate(objects, start=1):
            try:
                polygons.append(coco_outline(one))
            except ValueError as error:
                raise ValueError(f"object {number}: {error}") from error
        ignore = np.array([coco_ignored(one) for one in objects], dtype=bool)
        return cls(polygons, texts=[coco_word(one) for one in objects], ignore=ignore)

    @classmethod
    def from_icdar(cls, text: str) -> "TextInstances":
        """Parse an ICDAR ground truth: a line `x1,y1,…,x4,y4,transcription` for each word, `###` = do not care.

        Without anything after the coordinates the transcription is unknown (`None`), after more than four points it is
        empty. Outlines of more points, boxes,
        and the columns of MLT and RCTW-17 are understood too: see `transformers_tcm.icdar`.

        Raises:
            ValueError: naming the line that is not of this form.
        """
        lines = parse_icdar(text).lines
        for line in lines:
            if line.problem is not None or not np.isfinite(line.polygon).all():
                problem = line.problem or f"expected `x1,y1,…` of finite numbers, got {line.polygon.tolist()}"
                raise ValueError(f"line {line.number}: {problem}")
        ignore = np.array([line.ignore for line in lines], dtype=bool)
        # Files of curved outlines alone hold no words at all, while a quad's word may just be unknown.
        texts = ["" if line.text is None and len(line.polygon) != 4 else line.text for line in lines]
        return cls([line.polygon for line in lines], texts=texts, ignore=ignore)

    def to_icdar(self) -> str:
        """A line `x1,y1,…,transcription` for each instance; `###` where it is ignored, nothing where unknown.

        Words that would be taken for something else, such as `1,000`, are in quotes.
        """
        texts = self.texts or [None] * len(self)
        lines = []
        for polygon, word, ignore in zip(self.polygons, texts, self.ignored, strict=True):
            if len(polygon) != 4:
                raise ValueError(
                    f"the ICDAR format takes polygons of four points, not {len(polygon)}: use `to_json`, or "
                    "`geometry.min_area_quad` first"
                )
            word = ILLEGIBLE if ignore else (word or "").replace("\r", " ").replace("\n", " ")
            coordinates = [f"{value:.2f}".rstrip("0").rstrip(".") for value in polygon.reshape(-1)]
            lines.append(icdar_line(coordinates, word) + "\n")
        return "".join(lines)


@dataclass
class OrientedInstances(Instances):
    """The objects of one image, of any class and direction: outlines of four points as a rule, never cut.

    Args:
        polygons, scores, labels: as in `Instances`.
        ignore: difficult objects, which neither count as found nor as missed.
    """

    @classmethod
    def from_detections(cls, detections: Sequence[Mapping[str, Any]], label2id: Mapping[str, int]) -> Self:
        """What `pipeline("oriented-object-detection")` gives for an image."""
        return cls(
            [one["polygon"] for one in detections],
            scores=np.array([one["score"] for one in detections]),
            labels=np.array([label2id[one["label"]] for one in detections], np.int64),
        )

    def clip(self, width: float, height: float) -> Self:
        """Drop what lies outside of the image by more than 30 % of its area; the rest stays whole, or it would be no
        rectangle any more."""
        shares = []
        for polygon in self.polygons:
            part = geometry.clip_polygon(polygon, width, height)
            area = abs(geometry.signed_area(polygon))
            shares.append(0.0 if part is None or area == 0 else abs(geometry.signed_area(part)) / area)
        return self.select(np.array(shares) >= SHARE_INSIDE)

    @classmethod
    def from_dota(cls, text: str, label2id: Mapping[str, int]) -> Self:
        """Parse a label file of DOTA: lines `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, with or without its header.

        Raises:
            ValueError: naming the line that is not of this form, or the class that is not in `label2id`.
        """
        objects = parse_dota(text)
        unknown = sorted({one.name for one in objects} - set(label2id))
        if unknown:
            raise ValueError(f"classes {', '.join(unknown)} are not among the labels {', '.join(label2id)}")
        return cls(
            [one.polygon for one in objects],
            labels=np.array([label2id[one.name] for one in objects], np.int64),
            ignore=np.array([one.difficult > 0 for one in objects], dtype=bool),
        )

    def to_dota(self, id2label: Mapping[int, str]) -> str:
        """A line `x1 y1 x2 y2 x3 y3 x4 y4 class difficult` for each object.

        Raises:
            ValueError: without labels, or for an outline of other than four points.
        """
        labels = self._labels_of_quads()
        return "".join(
            f"{_numbers_text(polygon)} {id2label[label]} {int(ignore)}\n"
            for polygon, label, ignore in zip(self.polygons, labels, self.ignored, strict=True)
        )

    @classmethod
    def from_yolo_obb(cls, text: str, width: int, height: int) -> Self:
        """Parse a label file of YOLO-OBB, lines `class x1 y1 x2 y2 x3 y3 x4 y4` in shares of the image's size.

        Its order of DOTA's classes is another one than the devkit's: names decide, see `data.readers.load_yolo_obb`.

        Raises:
            ValueError: naming the line that is not of this form.
        """
        quads, labels = parse_yolo_obb(text, width, height)
        return cls(list(quads), labels=labels)

    def to_yolo_obb(self, width: int, height: int) -> str:
        """A line `class x1 y1 x2 y2 x3 y3 x4 y4` for each object, in shares of the image's size; see `to_dota`."""
        return "".join(
            f"{label} {' '.join(f'{value:.6f}' for value in (polygon / [width, height]).reshape(-1).tolist())}\n"
            for polygon, label in zip(self.polygons, self._labels_of_quads(), strict=True)
        )

    def _labels_of_quads(self) -> list[int]:
        if self.labels is None:
            raise ValueError("the objects have no `labels`; give each the number of its class")
        others = [len(polygon) for polygon in self.polygons if len(polygon) != 4]
        if others:
            raise ValueError(f"the format takes outlines of four points, not {others[0]}: use `to_json`")
        classes: list[int] = self.labels.tolist()
        return classes


def _numbers_text(polygon: np.ndarray) -> str:
    return " ".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in polygon.reshape(-1).tolist())


def _check_sequence(name: str, values: Any) -> None:
    """Raise `TypeError` for anything but a list, a tuple, or an array or tensor with an axis."""
    if hasattr(values, "__array__") and values.ndim > 0:
        return
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        kind = type(values).__name__
        raise TypeError(f"`{name}` is of type {kind}; expected a list with one entry for each instance")


def _numbers(name: str, values: Any) -> np.ndarray:
    """An array of floats; strings, complex numbers and ragged lists are no numbers."""
    try:
        array = np.asarray(values)
        # `None` among numbers becomes NaN.
        array = array.astype(np.float64) if array.dtype == object else array
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name} holds something else than numbers: {_shortened(values)}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds something else than numbers: {_shortened(values)}")
    with np.errstate(over="ignore"):  # to infinity, which is refused
        return array.astype(np.float32)


def _shortened(values: Any) -> str:
    text = repr(values)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _checked_polygon(index: int, polygon: Any) -> np.ndarray:
    if isinstance(polygon, np.ndarray) and polygon.dtype == np.float32:
        points = polygon
    else:
        points = _numbers(f"polygon {index} of `polygons`", polygon)
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3:
        raise ValueError(f"polygon {index} has shape {points.shape}; expected (K, 2) with at least 3 points")
    if not np.isfinite(points).all():
        raise ValueError(f"polygon {index} has a NaN or infinite coordinate: {_shortened(points.tolist())}")
    return points


def _checked_scores(name: str, values: Any) -> np.ndarray:
    _check_sequence(name, values)
    scores = _numbers(f"`{name}`", values)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"`{name}` is {_shortened(values)}; expected one finite number for each instance")
    return scores


def _checked_labels(values: Any) -> np.ndarray:
    """Class indices (N,) int64; floats and booleans are none."""
    _check_sequence("labels", values)
    labels = np.asarray(values)
    if labels.ndim != 1:
        raise ValueError(f"`labels` has shape {labels.shape}; expected one class index for each instance")
    if labels.size and labels.dtype.kind not in "iu":
        raise TypeError(f"`labels` is {_shortened(values)}; expected one class index for each instance")
    return labels.astype(np.int64)


def _checked_flags(values: Any) -> np.ndarray:
    """Booleans (N,); 0 and 1 are taken for them, the truth of strings and of `None` would surprise."""
    _check_sequence("ignore", values)
    flags = np.asarray(values)
    if flags.ndim != 1:
        raise ValueError(f"`ignore` has shape {flags.shape}; expected one boolean for each instance")
    if flags.dtype != bool and flags.size and not (flags.dtype.kind in "iu" and np.isin(flags, (0, 1)).all()):
        raise TypeError(f"`ignore` is {_shortened(values)}; expected one boolean for each instance")
    return flags.astype(bool)


def _checked_texts(values: Any) -> list[str | None]:
    _check_sequence("texts", values)
    texts = list(values)
    others = [index for index, text in enumerate(texts) if not isinstance(text, str | None)]
    if others:
        found = texts[others[0]]
        raise TypeError(f"entry {others[0]} of `texts` is {_shortened(found)}; expected a string, or null if unknown")
    return texts
