"""From outlines of words to the control points that the recogniser takes."""

from collections.abc import Sequence

import numpy as np
import torch

from .... import geometry
from ....bezier import fit_bezier, outline_to_bezier
from ....instances import TextInstances
from ..heads.boxes import box_iou
from .sampling import quads_to_bezier

__all__ = ["proposals_to_bezier", "with_matched_proposals", "words_to_bezier"]

# A proposal is taken for a word if both boxes share at least half of their union.
MATCH_IOU = 0.5


def words_to_bezier(polygons: Sequence[np.ndarray], texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
    """Control points (N, 8, 2) float32 of labelled words (K_i, 2), and which (N,) have any, not zeros.

    They start where `geometry.quad_along_word` takes the words to begin.
    """
    control_points, fitted = np.zeros((len(polygons), 8, 2), np.float32), np.zeros(len(polygons), bool)
    for index, (polygon, text) in enumerate(zip(polygons, texts, strict=True)):
        try:
            control_points[index] = fit_bezier(geometry.quad_along_word(polygon, text))
            fitted[index] = True
        except ValueError:
            continue  # no word, but a line or a bow tie, which the detection ignores as well
    return control_points, fitted


def proposals_to_bezier(polygons: Sequence[np.ndarray], halves_are_sides: bool) -> np.ndarray:
    """Control points (N, 8, 2) float32 of proposed outlines (K_i, 2); see `HeadOutput.halves_are_sides`."""
    fitted = [_proposal_to_bezier(polygon, halves_are_sides) for polygon in polygons]
    return np.stack(fitted) if fitted else np.zeros((0, 8, 2), np.float32)


def _proposal_to_bezier(polygon: np.ndarray, halves_are_sides: bool) -> np.ndarray:
    quad = polygon
    if len(polygon) != 4:
        try:
            return (fit_bezier if halves_are_sides else outline_to_bezier)(polygon)
        except ValueError:
            quad = geometry.min_area_quad(polygon)  # something has to be read: proposals have no other flaw
    return quads_to_bezier(torch.from_numpy(np.ascontiguousarray(quad, np.float32))).numpy()


def with_matched_proposals(
    label: dict[str, torch.Tensor], proposals: TextInstances, halves_are_sides: bool
) -> dict[str, torch.Tensor]:
    """A label whose words are followed by the proposals that lie on them, as if each were labelled twice.

    Args:
        label: of one image, with `control_points`, `char_ids` and `ignore`.
        proposals: what the detector found in it, in the same pixels.
        halves_are_sides: see `HeadOutput`.
    """
    control_points = label["control_points"]
    if not len(control_points) or not len(proposals):
        return label
    iou = box_iou(_boxes(control_points.float().cpu().numpy()), proposals.boxes)  # (N, M)
    words, matched = iou.argmax(axis=0), iou.max(axis=0) >= MATCH_IOU
    chosen = proposals.select(matched)
    extra = torch.from_numpy(proposals_to_bezier(chosen.polygons, halves_are_sides)).to(control_points)
    twice = torch.from_numpy(words[matched]).to(control_points.device)
    return {
        **label,
        "control_points": torch.cat([control_points, extra]),
        **{name: torch.cat([label[name], label[name][twice]]) for name in ("char_ids", "ignore")},
    }


def _boxes(control_points: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) around control points (N, 8, 2)."""
    return np.concatenate([control_points.min(axis=1), control_points.max(axis=1)], axis=1)
