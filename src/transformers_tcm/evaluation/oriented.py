"""Average precision of oriented objects, Task 1 of DOTA.

References: Xia et al., "DOTA: A Large-scale Dataset for Object Detection in Aerial Images", CVPR 2018, and its devkit;
average precision in its 11-point and its area form, Everingham et al., PASCAL VOC 2007 and 2012.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["DotaClassResult", "DotaEvaluation", "DotaEvaluationResult", "LabelledPolygons"]


class LabelledPolygons(Protocol):
    """Objects of one image: what `OrientedInstances` has of them."""

    polygons: list[np.ndarray]
    labels: Any
    scores: Any

    @property
    def ignored(self) -> np.ndarray: ...


@dataclass(frozen=True)
class DotaClassResult:
    """Average precision of one class.

    Args:
        average_precision: in [0, 1], NaN without ground truth.
        recall: (M,) after each of its detections, in falling score.
        precision: (M,) likewise.
        ground_truths: objects that count.
    """

    average_precision: float
    recall: np.ndarray
    precision: np.ndarray
    ground_truths: int


@dataclass(frozen=True)
class DotaEvaluationResult:
    """Average precision of each class, and their mean over the classes that have ground truth.

    Args:
        mean_average_precision: in [0, 1], NaN if no class has ground truth.
        classes: by name.
        without_ground_truth: names that are left out of the mean.
    """

    mean_average_precision: float
    classes: dict[str, DotaClassResult]
    without_ground_truth: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The figures without the curves, ready for `json.dumps`."""
        counted = {
            name: one.average_precision for name, one in self.classes.items() if name not in self.without_ground_truth
        }
        return {
            "mean_average_precision": self.mean_average_precision if counted else None,
            "average_precision": counted,
            "without_ground_truth": self.without_ground_truth,
        }


class DotaEvaluation:
    """Average precision of detected polygons, as the devkit of DOTA computes it.

    In falling score, a detection looks for the object of its class and image with the highest IoU. If that exceeds
    `iou_threshold`, the detection is right when the object has not been found before, wrong when it has; it does not
    count when the object is ignored (difficult). All other detections are wrong. The second-best object is never tried.
    Equal scores keep their order, which the devkit leaves open.

    Args:
        class_names: name of each label.
        iou_threshold: IoU that a right detection exceeds.
        form: `"11points"`, that of the published numbers, or `"area"` under the monotone precision-recall curve.
        difficult: `"ignore"`, or `"count"` as ordinary objects, which MMRotate does in training.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        iou_threshold: float = 0.5,
        form: str = "11points",
        difficult: str = "ignore",
    ) -> None:
        if not class_names:
            raise ValueError("`class_names` is empty; give the name of each label")
        if form not in ("11points", "area"):
            raise ValueError(f'`form` must be "11points" or "area", got {form!r}')
        if difficult not in ("ignore", "count"):
            raise ValueError(f'`difficult` must be "ignore" or "count", got {difficult!r}')
        self.class_names = list(class_names)
        self.iou_threshold = iou_threshold
        self.form = form
        self.difficult = difficult
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._wanted = np.zeros(len(self.class_names), dtype=np.int64)
        # Of each image: labels, scores, and 1 for right, -1 for wrong, 0 for what does not count.
        self._judged: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, ground_truth: LabelledPolygons, detections: LabelledPolygons) -> None:
        """Add an image.

        Raises:
            ValueError: if labels or the scores of the detections are missing, or a label has no name.
        """
        wanted = self._labels("ground truth", ground_truth)
        labels = self._labels("detections", detections)
        if detections.scores is None:
            raise ValueError("the detections have no `scores`, which average precision is made from")
        scores = np.asarray(detections.scores, dtype=np.float64)
        ignored = np.asarray(ground_truth.ignored, dtype=bool) & (self.difficult == "ignore")
        self._wanted += np.bincount(wanted[~ignored], minlength=len(self.class_names))
        best, overlap = _best_objects(detections.polygons, labels, ground_truth.polygons, wanted)
        verdicts = np.full(len(labels), -1)
        found: set[int] = set()
        for index in np.argsort(-scores, kind="stable"):
            if overlap[index] > self.iou_threshold:
                partner = int(best[index])
                verdicts[index] = 0 if ignored[partner] else -1 if partner in found else 1
                found.add(partner)
        self._judged.append((labels, scores, verdicts))

    def _labels(self, whose: str, instances: LabelledPolygons) -> np.ndarray:
        if instances.labels is None:
            raise ValueError(f"the {whose} have no `labels`; give each object the number of its class")
        labels = np.asarray(instances.labels, dtype=np.int64).reshape(len(instances.polygons))
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
            raise ValueError(
                f"the {whose} have labels {labels.min()} … {labels.max()}, but there are {len(self.class_names)} "
                "`class_names`"
            )
        return labels

    def compute(self) -> DotaEvaluationResult:
        """The result over the images so far."""
        empty = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
        labels, scores, verdicts = (np.concatenate(parts) for parts in zip(empty, *self._judged, strict=True))
        classes = {}
        for number, name in enumerate(self.class_names):
            own = np.flatnonzero(labels == number)
            order = own[np.argsort(-scores[own], kind="stable")]
            classes[name] = self._class_result(verdicts[order], int(self._wanted[number]))
        absent = [name for name, one in classes.items() if not one.ground_truths]
        counted = [one.average_precision for one in classes.values() if one.ground_truths]
        return DotaEvaluationResult(float(np.mean(counted)) if counted else float("nan"), classes, absent)

    def _class_result(self, verdicts: np.ndarray, ground_truths: int) -> DotaClassResult:
        right, wrong = np.cumsum(verdicts == 1), np.cumsum(verdicts == -1)
        precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
        if not ground_truths:
            return DotaClassResult(float("nan"), np.full(len(verdicts), np.nan), precision, 0)
        recall = right / ground_truths
        form = _eleven_point_precision if self.form == "11points" else _area_under_curve
        return DotaClassResult(form(recall, precision), recall, precision, ground_truths)


def _eleven_point_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean over eleven recalls of the highest precision at that recall or more."""
    # Multiples as `arange` rounds them: 0.30000000000000004 matters where a recall is 0.3.
    at_least = [precision[recall >= level] for level in np.arange(0.0, 1.1, 0.1)]
    return float(np.mean([values.max() if len(values) else 0.0 for values in at_least]))


def _area_under_curve(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the curve whose precision is the highest one at that recall or more."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _best_objects(
    polygons: Sequence[np.ndarray], labels: np.ndarray, objects: Sequence[np.ndarray], object_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The object (M,) of the same class that each polygon overlaps most, the first of equals, and their IoU (M,)."""
    best, overlap = np.zeros(len(polygons), dtype=np.int64), np.zeros(len(polygons))
    if not len(polygons) or not len(objects):
        return best, overlap
    import shapely

    shapes, wanted = (_valid_shapes(outlines) for outlines in (polygons, objects))
    first, second = shapely.STRtree(wanted).query(shapes, predicate="intersects")
    same = labels[first] == object_labels[second]
    first, second = first[same], second[same]
    shared = shapely.area(shapely.intersection(shapes[first], wanted[second]))
    union = shapely.area(shapes[first]) + shapely.area(wanted[second]) - shared
    ious = shared / np.maximum(union, np.finfo(np.float64).tiny)
    # The last one written stays: the highest IoU, and among equals the first object.
    order = np.lexsort((-second, ious))
    best[first[order]], overlap[first[order]] = second[order], ious[order]
    return best, overlap


def _valid_shapes(outlines: Sequence[np.ndarray]) -> np.ndarray:
    import shapely

    shapes = np.array([shapely.Polygon(np.asarray(outline, dtype=np.float64)) for outline in outlines])
    return shapely.make_valid(shapes, method="structure", keep_collapsed=False)
