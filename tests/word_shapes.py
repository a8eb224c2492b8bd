"""Words to label pictures with, and how well detected ones fit them."""

from collections.abc import Sequence

import numpy as np
import shapely
import torch


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def arch(x: float, y: float, radius: float, height: float, degrees: float) -> np.ndarray:
    """A curved word of 14 points whose middle is at x, y."""
    half = np.deg2rad(degrees) / 2
    angles = np.linspace(-half, half, 7)
    arc = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    sides = np.concatenate([(radius + height / 2) * arc, (radius - height / 2) * arc[::-1]])
    return (sides + np.array([x, y + radius])).astype(np.float32)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    one, other = (shapely.buffer(shapely.Polygon(outline), 0) for outline in (first, second))
    return one.intersection(other).area / one.union(other).area


def best_ious(found: Sequence[np.ndarray], words: Sequence[np.ndarray]) -> list[float]:
    """For each word the IoU of the outline that fits it best."""
    return [max((iou(outline, word) for outline in found), default=0.0) for word in words]


def batch_of(targets: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Labels of a batch: stacked where all images agree in shape, otherwise joined and counted."""
    labels = {}
    for name in targets[0]:
        arrays = [torch.from_numpy(one[name]) for one in targets]
        if len({array.shape for array in arrays}) == 1:
            labels[name] = torch.stack(arrays)
        else:
            labels[name] = torch.cat(arrays)
            labels[f"{name}_counts"] = torch.tensor([len(array) for array in arrays])
    return labels
