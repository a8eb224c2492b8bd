"""Rotated boxes: conversions to and from quads, exact IoU, non-maximum suppression.

A box is (cx, cy, w, h, angle) in pixels and radians, y down; the angle turns the +x axis towards +y, clockwise on the
screen. In le90 form ("long edge, 90 degrees") w >= h and the angle lies in [-pi/2, pi/2).

References: le90 of MMRotate, Zhou et al., ACM MM 2022. The IoU of two boxes is the area of a convex intersection as a
boundary integral: half the sum of cross(start, end) over the pieces of either outline that lie inside the other box,
which needs neither sorting nor a convex hull and is differentiable wherever no corner lies on an edge.
"""

import math

import numpy as np
import torch

__all__ = [
    "boxes_to_quads",
    "iou_limits",
    "iou_of_pairs",
    "pairwise_rotated_iou",
    "quads_to_boxes",
    "regularize_boxes",
    "rotated_iou",
    "rotated_iou_pairs",
    "rotated_nms",
    "wrap_angle",
]

CORNER_SIGNS = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
# Pairs whose IoU is computed at once: the intermediate values stay in a processor's cache, half as fast without.
CHUNK = 2**13
# Pairs whose distances are looked at together.
MANY = 2**20
# Boxes that are taken together, the best first, in non-maximum suppression.
BLOCK = 1000


def wrap_angle(angle: torch.Tensor) -> torch.Tensor:
    """The same directions (N,) of axes, in [-pi/2, pi/2)."""
    wrapped = torch.remainder(angle + math.pi / 2, math.pi) - math.pi / 2
    # The remainder of a tiny negative number rounds up to pi itself.
    return torch.where(wrapped >= math.pi / 2, wrapped - math.pi, wrapped)


def regularize_boxes(boxes: torch.Tensor) -> torch.Tensor:
    """The same regions (…, 5) in le90 form.

    Sides are exchanged unless w > h, as in MMRotate, so that a square is turned by a right angle: one at angle 0 is
    given at -pi/2 and the other way round.
    """
    center, width, height, angle = boxes[..., :2], boxes[..., 2], boxes[..., 3], boxes[..., 4]
    wide = width > height
    turned = wrap_angle(torch.where(wide, angle, angle + math.pi / 2))
    sides = torch.stack([torch.maximum(width, height), torch.minimum(width, height), turned], dim=-1)
    return torch.cat([center, sides], dim=-1)


def boxes_to_quads(boxes: torch.Tensor) -> torch.Tensor:
    """Corners (…, 4, 2) of boxes (…, 5), clockwise from the top-left corner of the upright box."""
    cos, sin = boxes[..., 4].cos(), boxes[..., 4].sin()
    along = torch.stack([cos, sin], dim=-1) * boxes[..., 2:3]
    down = torch.stack([-sin, cos], dim=-1) * boxes[..., 3:4]
    return torch.stack([boxes[..., :2] + x * along + y * down for x, y in CORNER_SIGNS], dim=-2)


def quads_to_boxes(quads: np.ndarray) -> np.ndarray:
    """Minimum-area rectangles (N, 5) of quads (N, 4, 2), or of N sets of up to 8 points, in le90 form.

    A side of the smallest rectangle lies on an edge of the convex hull, and all such edges are among the lines through
    two points. Unlike OpenCV's `minAreaRect`, it does not depend on the version.

    Args:
        quads: (N, K, 2) points in any order; they may coincide or lie on a line.

    Returns:
        Boxes of the floating type of `quads`, (N, 5).
    """
    points = np.asarray(quads, dtype=np.float64)
    origin = points.mean(axis=1, keepdims=True)
    first, second = np.triu_indices(points.shape[1], k=1)
    edges = points[:, second] - points[:, first]  # (N, D, 2), D lines through two points
    lengths = np.linalg.norm(edges, axis=-1, keepdims=True)
    along = np.where(lengths > 0, edges / np.where(lengths > 0, lengths, 1), [1.0, 0.0])
    axes = np.stack([along, along[..., ::-1] * [-1, 1]], axis=-2)  # (N, D, 2 axes, 2)
    reach = np.einsum("ndac,nkc->ndak", axes, points - origin)
    low, high = reach.min(axis=-1), reach.max(axis=-1)  # (N, D, 2)
    best = (high - low).prod(axis=-1).argmin(axis=1)
    rows = np.arange(len(points))
    low, high, axes = low[rows, best], high[rows, best], axes[rows, best]
    centers = origin[:, 0] + np.einsum("nac,na->nc", axes, (low + high) / 2)
    angles = np.arctan2(axes[:, 0, 1], axes[:, 0, 0])
    boxes = torch.from_numpy(np.hstack([centers, high - low, angles[:, None]]))
    dtype = quads.dtype if np.issubdtype(quads.dtype, np.floating) else np.float32
    return regularize_boxes(boxes).numpy().astype(dtype)


def rotated_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Exact IoU (N,) in [0, 1] of boxes (N, 5) and (N, 5), pair by pair, differentiable in both.

    Boxes with a side of zero or less overlap nothing. Equal regions in another notation (turned by pi, sides exchanged)
    have IoU 1.
    """
    dtype = first.dtype
    if first.device.type != "mps":
        # Edges that almost coincide meet at a point which float32 cannot tell; MPS has nothing better.
        first, second = first.double(), second.double()
    areas = first[:, 2] * first[:, 3], second[:, 2] * second[:, 3]
    shared = _intersection(first.T, second.T)
    union = areas[0] + areas[1] - shared
    sound = (torch.minimum(first[:, 2:4], second[:, 2:4]) > 0).all(dim=1)
    iou = shared / torch.where(sound, union, torch.ones_like(union))
    return torch.where(sound, iou.clamp(0, 1), torch.zeros_like(iou)).to(dtype)


def _intersection(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Area (N,) shared by boxes (5, N) and (5, N), by the boundary integral in the frame of the second box.

    A piece of an edge P + t e from t = a to t = b contributes (b - a) cross(P, e) / 2. Around its own centre, the cross
    product of a w x h box is w h / 2 at each edge.
    """
    turn = first[4] - second[4]
    cos, sin = turn.cos(), turn.sin()
    precision = 1e-8 if turn.dtype == torch.float64 else 1e-6
    aligned = torch.minimum(cos.abs(), sin.abs()) <= precision
    # Almost parallel edges are made parallel, or each box might count them in its own way; their gradients stay.
    cos, sin = (torch.where(aligned, value + (value.round() - value).detach(), value) for value in (cos, sin))
    tolerance = 0.1 * precision * torch.cat([first[2:4], second[2:4]]).amax(dim=0)
    # An edge shared by both boxes counts as a piece of the first one only, hence the tolerance of either sign.
    x, y = _turned(first[0] - second[0], first[1] - second[1], -second[4])
    edges, pieces = _pieces(x, y, first[2:4], cos, sin, second[2:4], tolerance, aligned)
    back_x, back_y = -cos * x - sin * y, sin * x - cos * y
    _, others = _pieces(back_x, back_y, second[2:4], cos, -sin, first[2:4], -tolerance, aligned)
    own = first[2] * first[3] / 2
    # (4, N) cross products: of the centre with the edge, and of the corner seen from the centre with the edge
    cross = x * edges[1] - y * edges[0] + own
    twice = (pieces * cross).sum(dim=0) + others.sum(dim=0) * (second[2] * second[3] / 2)
    return (twice / 2).clamp(min=0)


def _turned(x: torch.Tensor, y: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors turned by an angle."""
    cos, sin = angle.cos(), angle.sin()
    return cos * x - sin * y, sin * x + cos * y


def _pieces(
    x: torch.Tensor,
    y: torch.Tensor,
    sides: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    limits: torch.Tensor,
    tolerance: torch.Tensor,
    aligned: torch.Tensor,
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """How much of each edge of a turned box lies within an upright one around the origin.

    Args:
        x, y: (N,) centre of the turned box.
        sides: (2, N) its width and height.
        cos, sin: (N,) its direction.
        limits: (2, N) width and height of the upright box.
        tolerance: (N,) distance beyond its border up to which an edge along the border counts as inside.
        aligned: (N,) bool, boxes whose edges are parallel.

    Returns:
        The edges as x and y (4, N), clockwise from the upper one, and the part of each that lies inside (4, N).
    """
    along_x, along_y = cos * sides[0], sin * sides[0]
    down_x, down_y = -sin * sides[1], cos * sides[1]
    edge_x = torch.stack([along_x, down_x, -along_x, -down_x])
    edge_y = torch.stack([along_y, down_y, -along_y, -down_y])
    start_x = x + torch.stack([-along_x - down_x, along_x - down_x, along_x + down_x, down_x - along_x]) / 2
    start_y = y + torch.stack([-along_y - down_y, along_y - down_y, along_y + down_y, down_y - along_y]) / 2
    swapped = sin.abs() < cos.abs()  # (N,) whether the first and third edge run along x
    even = torch.tensor([True, False, True, False], device=x.device)[:, None]
    runs_along_x = even == swapped  # (4, N), of aligned boxes
    low_x, high_x = _interval(start_x, edge_x, limits[0] / 2, tolerance, aligned & ~runs_along_x)
    low_y, high_y = _interval(start_y, edge_y, limits[1] / 2, tolerance, aligned & runs_along_x)
    inside = torch.minimum(high_x, high_y).clamp(max=1) - torch.maximum(low_x, low_y).clamp(min=0)
    return (edge_x, edge_y), inside.clamp(min=0)


def _interval(
    start: torch.Tensor, edge: torch.Tensor, limit: torch.Tensor, tolerance: torch.Tensor, parallel: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The t (4, N) from and to which |start + t edge| <= limit, along one axis; all or none of a parallel edge."""
    # The unused branch must be finite too, or its gradient is not a number.
    slope = torch.where(parallel | (edge == 0), torch.ones_like(edge), edge)
    middle, reach = -start / slope, limit / slope.abs()
    low, high = middle - reach, middle + reach
    outside = torch.where(start.abs() > limit + tolerance, 2.0, 0.0).to(start.dtype)
    return torch.where(parallel, outside, low), torch.where(parallel, torch.ones_like(high), high)


def rotated_iou_pairs(
    first: torch.Tensor, second: torch.Tensor, min_side: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs that may overlap, without gradient: both indices (P,) and the IoU (P,) of each pair.

    Only pairs whose circumscribed circles meet are looked at; every other pair has IoU 0.

    Args:
        first: (N, 5) boxes, the fewer ones.
        second: (M, 5) boxes.
        min_side: shorter sides are taken for this long, as MMRotate does in assignment (1e-3).
    """
    with torch.no_grad():
        first, second = _with_min_side(first, min_side), _with_min_side(second, min_side)
        rows, columns = _near_pairs(first, second)
        return rows, columns, iou_of_pairs(first, second, rows, columns)


def pairwise_rotated_iou(first: torch.Tensor, second: torch.Tensor, min_side: float = 0.0) -> torch.Tensor:
    """IoU (N, M) of boxes (N, 5) and (M, 5), without gradient; `min_side` as for `rotated_iou_pairs`."""
    rows, columns, values = rotated_iou_pairs(first, second, min_side)
    iou = values.new_zeros(len(first), len(second))
    iou[rows, columns] = values
    return iou


def _with_min_side(boxes: torch.Tensor, min_side: float) -> torch.Tensor:
    if min_side <= 0:
        return boxes
    return torch.cat([boxes[:, :2], boxes[:, 2:4].clamp(min=min_side), boxes[:, 4:]], dim=1)


def _near_pairs(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (P,) and (P,), in rising order, of pairs whose circumscribed circles meet and that no side separates."""
    radii = [torch.linalg.vector_norm(boxes[:, 2:4], dim=1) / 2 for boxes in (first, second)]
    rows_at_once = max(1, MANY // max(len(second), 1))
    parts = []
    for start in range(0, max(len(first), 1), rows_at_once):
        rows = slice(start, start + rows_at_once)
        x, y = (first[rows, None, axis] - second[None, :, axis] for axis in (0, 1))
        near = torch.nonzero(x * x + y * y <= (radii[0][rows, None] + radii[1]).square())
        one, other = near[:, 0] + start, near[:, 1]
        touching = iou_limits(first, second, one, other) > 0
        parts.append((one[touching], other[touching]))
    rows_found, columns = zip(*parts, strict=True)
    return torch.cat(rows_found), torch.cat(columns)


def iou_limits(first: torch.Tensor, second: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """What the IoU (P,) of pairs of boxes (N, 5) and (M, 5) cannot exceed, at a fraction of its cost.

    The intersection is no larger than either box, nor than that of the second one with the hull of the first one along
    its axes. Where a side of the second box separates them the limit is 0.

    Args:
        first, second: boxes with positive sides.
        rows, columns: (P,) indices of the pairs.
    """
    areas = first[:, 2:4].prod(dim=1)[rows], second[:, 2:4].prod(dim=1)[columns]
    first, second = first.T[:, rows], second.T[:, columns]
    cos, sin = (first[4] - second[4]).cos().abs(), (first[4] - second[4]).sin().abs()
    x, y = _turned(first[0] - second[0], first[1] - second[1], -second[4])
    hull = first[2] * cos + first[3] * sin, first[2] * sin + first[3] * cos
    across, down = (
        torch.minimum((side + other) / 2 - offset.abs(), torch.minimum(side, other)).clamp(min=0)
        for offset, side, other in ((x, hull[0], second[2]), (y, hull[1], second[3]))
    )
    shared = torch.minimum(across * down, torch.minimum(*areas))
    return shared / (areas[0] + areas[1] - shared)


def iou_of_pairs(first: torch.Tensor, second: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """IoU (P,) of those pairs of boxes (N, 5) and (M, 5) that two lists of indices (P,) name."""
    parts = [
        rotated_iou(first[some], second[others])
        for some, others in zip(rows.split(CHUNK), columns.split(CHUNK), strict=True)
    ]
    return torch.cat(parts) if parts else first.new_zeros(0)


def rotated_nms(boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Class-wise greedy non-maximum suppression: indices (M,) of the boxes that are kept, the best first.

    A box is left out when its IoU with a better one of its class that is kept exceeds `iou_threshold`. Equal scores
    keep their order.

    Args:
        boxes: (N, 5).
        scores: (N,).
        labels: (N,) class indices.
        iou_threshold: largest IoU of two boxes of a class that are both kept.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, labels = boxes[order].detach(), labels[order]
    kept = torch.zeros(len(order), dtype=torch.bool, device=order.device)
    for label in labels.unique():
        members = torch.nonzero(labels == label)[:, 0]
        kept[members[_nms_of_sorted(boxes[members], iou_threshold)]] = True
    return order[kept]


def _nms_of_sorted(boxes: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices (M,) of those boxes (N, 5), in falling score, that no better one suppresses.

    The best ones are taken together and suppress among all that follow, so that most pairs are never looked at.
    """
    kept, rest = [], torch.arange(len(boxes), device=boxes.device)
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        rows, columns = _near_pairs(boxes[block], boxes[block])
        rows, columns = rows[rows < columns], columns[rows < columns]
        overlapping = iou_of_pairs(boxes[block], boxes[block], rows, columns) > iou_threshold
        own = _greedy(rows[overlapping].cpu().numpy(), columns[overlapping].cpu().numpy(), len(block))
        kept.append(block[torch.from_numpy(own).to(block.device)])
        _, columns, ious = rotated_iou_pairs(boxes[kept[-1]], boxes[rest])
        suppressed = torch.zeros_like(rest, dtype=torch.bool)
        suppressed[columns[ious > iou_threshold]] = True
        rest = rest[~suppressed]
    return torch.cat(kept)


def _greedy(better: np.ndarray, worse: np.ndarray, count: int) -> np.ndarray:
    """Of boxes in falling score, the positions (M,) of those that no kept one suppresses.

    `better` rises; `better` and `worse` (P,) are the pairs that overlap.
    """
    starts = np.searchsorted(better, np.arange(count + 1)).tolist()
    kept = np.ones(count, dtype=bool)
    for position in range(count):
        first, last = starts[position], starts[position + 1]
        if first < last and kept[position]:
            kept[worse[first:last]] = False
    return np.flatnonzero(kept)
