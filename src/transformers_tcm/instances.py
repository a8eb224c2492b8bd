"""`TextInstances`: the text in one image, the one currency of the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from . import geometry

__all__ = ["TextInstances"]

ILLEGIBLE = "###"


@dataclass
class TextInstances:
    """The text instances of one image.

    Args:
        polygons: one (K_i, 2) float32 array of x, y pixels for each instance, K_i >= 3, clockwise from the top-left
            corner of the reading direction.
        scores: detection confidence (N,) in [0, 1].
        texts: one string for each instance, `None` where the transcription is unknown.
        text_scores: recognition confidence (N,) in [0, 1].
        ignore: (N,) bool, `True` for regions that neither count as found nor as missed.

    Raises:
        ValueError: if the fields differ in length, or a polygon is not (K >= 3, 2) or not finite.
    """

    polygons: list[np.ndarray]
    scores: np.ndarray | None = None
    texts: list[str | None] | None = None
    text_scores: np.ndarray | None = None
    ignore: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.polygons = [np.asarray(polygon, dtype=np.float32) for polygon in self.polygons]
        for name, dtype in (("scores", np.float32), ("text_scores", np.float32), ("ignore", bool)):
            if getattr(self, name) is not None:
                setattr(self, name, np.asarray(getattr(self, name), dtype=dtype))
        for index, polygon in enumerate(self.polygons):
            if polygon.ndim != 2 or polygon.shape[1:] != (2,) or len(polygon) < 3:
                raise ValueError(f"polygon {index} has shape {polygon.shape}; expected (K, 2) with at least 3 points")
            if not np.isfinite(polygon).all():
                raise ValueError(f"polygon {index} has a NaN or infinite coordinate: {polygon.tolist()}")
        for name, values in self._per_instance():
            if len(values) != len(self.polygons):
                raise ValueError(f"`{name}` has {len(values)} entries for {len(self.polygons)} polygons")

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

    def select(self, which: Sequence[int] | np.ndarray) -> "TextInstances":
        """The instances of a list of indices or of a boolean mask (N,), in that order."""
        indices = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, dtype=np.int64)
        chosen: dict[str, Any] = {
            name: values[indices] if isinstance(values, np.ndarray) else [values[i] for i in indices]
            for name, values in self._per_instance()
        }
        return TextInstances([self.polygons[i] for i in indices], **chosen)

    def with_polygons(self, polygons: list[np.ndarray]) -> "TextInstances":
        """The same instances with other outlines."""
        return TextInstances(polygons, **dict(self._per_instance()))

    def scale(self, x: float, y: float) -> "TextInstances":
        """Multiply the coordinates, as a resize of the image does."""
        return self.with_polygons([polygon * np.array([x, y], np.float32) for polygon in self.polygons])

    def transform(self, matrix: np.ndarray) -> "TextInstances":
        """Apply an affine (2, 3) or projective (3, 3) matrix."""
        return self.with_polygons([geometry.transform_points(polygon, matrix) for polygon in self.polygons])

    def clip(self, width: float, height: float) -> "TextInstances":
        """Cut polygons at the image's border and drop those that lie outside."""
        clipped = [geometry.clip_polygon(polygon, width, height) for polygon in self.polygons]
        inside = np.array([polygon is not None for polygon in clipped], dtype=bool)
        return self.select(inside).with_polygons([polygon for polygon in clipped if polygon is not None])

    def to_json(self) -> dict[str, list]:
        """Plain lists for `json.dumps`; absent fields are left out. `from_json` reads them back."""
        plain: dict[str, list] = {"polygons": [polygon.tolist() for polygon in self.polygons]}
        for name, values in self._per_instance():
            plain[name] = values.tolist() if isinstance(values, np.ndarray) else list(values)
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "TextInstances":
        """The inverse of `to_json`; other keys (`image`, …) are left alone.

        Raises:
            ValueError: if there are no `polygons`, or the fields do not fit together.
        """
        if plain.get("polygons") is None:
            raise ValueError(f"expected `polygons`, got {sorted(plain)}")
        names = [field.name for field in fields(cls)]
        return cls(**{name: plain[name] for name in names if plain.get(name) is not None})

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
    def from_icdar(cls, text: str) -> "TextInstances":
        """Parse an ICDAR-2015 ground truth: a line `x1,y1,…,x4,y4,transcription` for each word, `###` = do not care.

        Without anything after the eighth comma the transcription is unknown (`None`).

        Raises:
            ValueError: naming the line that is not of this form.
        """
        polygons, texts = [], []
        # Not `splitlines`, which takes rare characters of a word for the end of a line.
        for number, line in enumerate(text.lstrip("\ufeff").replace("\r\n", "\n").split("\n"), start=1):
            if line.strip():
                try:
                    polygon, word = _parse_icdar_line(line)
                except ValueError as error:
                    raise ValueError(
                        f"line {number}: expected `x1,y1,x2,y2,x3,y3,x4,y4,transcription`, got {line!r}"
                    ) from error
                polygons.append(polygon)
                texts.append(word)
        return cls(polygons, texts=texts, ignore=np.array([word == ILLEGIBLE for word in texts], dtype=bool))

    def to_icdar(self) -> str:
        """A line `x1,y1,…,transcription` for each instance; `###` where it is ignored, nothing where unknown."""
        texts = self.texts or [None] * len(self)
        lines = []
        for polygon, word, ignore in zip(self.polygons, texts, self.ignored, strict=True):
            if len(polygon) != 4:
                raise ValueError(
                    f"the ICDAR format takes polygons of four points, not {len(polygon)}: use `to_json`, or "
                    "`geometry.min_area_quad` first"
                )
            word = (word or "").replace("\n", " ")
            coordinates = ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in polygon.reshape(-1))
            lines.append(f"{coordinates},{ILLEGIBLE if ignore else word}\n")
        return "".join(lines)


def _parse_icdar_line(line: str) -> tuple[np.ndarray, str | None]:
    """Eight numbers, then the word, which may itself hold commas."""
    parts = line.split(",", 8)
    if len(parts) < 8:
        raise ValueError("fewer than four points")
    polygon = np.array([float(part) for part in parts[:8]], dtype=np.float32).reshape(4, 2)
    if not np.isfinite(polygon).all():
        raise ValueError("not a finite number")
    word = parts[8] if len(parts) == 9 else ""
    return polygon, word or None
