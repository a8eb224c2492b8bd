"""Words cut out of feature maps and straightened, differentiably.

Reference: Liu et al., "ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network", CVPR 2020, section
2.2 (BezierAlign); Liao et al., "Mask TextSpotter v3: Segmentation Proposal Network for Robust Scene Text Spotting",
ECCV 2020 (hard RoI masking).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ....bezier import bernstein_basis

__all__ = [
    "BezierAlign",
    "FeatureLevels",
    "MaskedBoxSampler",
    "WordSampler",
    "bezier_outlines",
    "boxes_to_bezier",
    "outline_masks",
    "quads_to_bezier",
    "with_ends",
    "with_margin",
    "word_heights",
    "word_lengths",
]

# Of the polygon that stands for the outline of a word.
POINTS_PER_SIDE = 10


def quads_to_bezier(quads: torch.Tensor) -> torch.Tensor:
    """Control points (…, 8, 2) of quads (…, 4, 2), both clockwise from the top-left corner of the reading direction."""
    steps = torch.linspace(0, 1, 4, dtype=quads.dtype, device=quads.device)[:, None]  # (4, 1)
    upper = torch.lerp(quads[..., 0:1, :], quads[..., 1:2, :], steps)
    lower = torch.lerp(quads[..., 2:3, :], quads[..., 3:4, :], steps)
    return torch.cat([upper, lower], dim=-2)


class BezierAlign(nn.Module):
    """Samples words bounded by two cubic Bézier curves into crops of one size, by bilinear interpolation.

    The centre of a crop's cell at the fraction u of its width and v of its height is read at the fraction v of the way
    from the upper curve at u to the lower curve below it. The map's cell (row i, column j) is centred on the pixel
    ((j + 0.5) x stride, (i + 0.5) x stride); beyond the outermost centres the nearest cell counts. Each crop cell is a
    single sample: choose a map whose stride fits the size of the words.

    Args:
        output_size: height and width of the crops, in cells.
        stride: pixels of the network's input per cell of the feature map.
        chunk_size: words sampled at once, which bounds the memory used besides the crops themselves.
    """

    def __init__(self, output_size: tuple[int, int], stride: float, chunk_size: int = 256):
        super().__init__()
        if min(output_size) < 1 or stride <= 0 or chunk_size < 1:
            raise ValueError(
                "`output_size`, `stride` and `chunk_size` must be positive, got "
                f"{output_size}, {stride} and {chunk_size}"
            )
        self.output_size, self.stride, self.chunk_size = output_size, stride, chunk_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, stride={self.stride}"

    def forward(
        self, features: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> torch.Tensor:
        """Crops (N, C, out_h, out_w), in the type of the features.

        Args:
            features: (B, C, H, W) maps of a batch.
            control_points: (N, 8, 2) pixels of the network's input, ordered as in `transformers_tcm.bezier`.
            batch_indices: (N,) integers, the image that each word is in. Rising ones save a copy of the crops.

        Raises:
            ValueError: if shapes do not fit together, or an index is outside the batch.
        """
        images = _checked_images(features, control_points, batch_indices)
        if (np.diff(images) < 0).any():
            order = np.argsort(images, kind="stable")
            return self(features, control_points[order], batch_indices[order])[np.argsort(order)]
        counts = np.bincount(images, minlength=len(features)).tolist()
        # Coordinates in half precision would be off by several pixels.
        dtype = torch.promote_types(features.dtype, torch.float32)
        with torch.autocast(features.device.type, enabled=False):
            grids = self._grids(control_points.to(dtype), *features.shape[2:]).split(counts)
            crops = [
                self._sample(image, chunk).to(features.dtype)
                for image, grid in zip(features.to(dtype).split(1), grids, strict=True)
                for chunk in grid.split(self.chunk_size)
            ]
        return torch.cat(crops)

    def _grids(self, control_points: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Where to sample for each crop cell, (N, out_h, out_w, 2) as x, y with the map's corners at -1 and 1."""
        rows, columns = ((np.arange(size) + 0.5) / size for size in self.output_size)
        upper = control_points.new_tensor(bernstein_basis(columns)) @ control_points[:, :4]  # (N, out_w, 2)
        lower = control_points.new_tensor(bernstein_basis(1 - columns)) @ control_points[:, 4:]  # runs right to left
        down = control_points.new_tensor(rows)[:, None, None]  # (out_h, 1, 1)
        points = torch.lerp(upper[:, None], lower[:, None], down)  # (N, out_h, out_w, 2)
        return points * (2 / (self.stride * points.new_tensor([width, height]))) - 1

    @staticmethod
    def _sample(image: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """Crops (n, C, out_h, out_w) of one image (1, C, H, W), its grids (n, out_h, out_w, 2) stacked into one."""
        count, height, width, _ = grids.shape
        tall = grids.reshape(1, count * height, width, 2)
        sampled = functional.grid_sample(image, tall, mode="bilinear", padding_mode="border", align_corners=False)
        return sampled.unflatten(2, (count, height))[0].transpose(0, 1)  # (1, C, n x h, w) -> (n, C, h, w)


def _checked_images(features: torch.Tensor, control_points: torch.Tensor, batch_indices: torch.Tensor) -> np.ndarray:
    """The image (N,) of each word, after a look at all shapes."""
    if features.ndim != 4 or not len(features):
        raise ValueError(f"expected features (B, C, H, W) of at least one image, got shape {tuple(features.shape)}")
    if control_points.ndim != 3 or control_points.shape[1:] != (8, 2):
        raise ValueError(f"expected control points (N, 8, 2), got shape {tuple(control_points.shape)}")
    if batch_indices.shape != control_points.shape[:1]:
        raise ValueError(
            f"expected one batch index for each of {len(control_points)} words, got shape {tuple(batch_indices.shape)}"
        )
    images = np.asarray(batch_indices.tolist(), dtype=np.int64)
    if ((images < 0) | (images >= len(features))).any():
        raise ValueError(f"batch indices must lie in 0 … {len(features) - 1}, got {images.min()} … {images.max()}")
    return images


class FeatureLevels:
    """A map and what it is when it is halved again and again by average pooling.

    Words of a batch are read several times, some of them alone. Each level is made, and put in the number type that
    words are cut out in, only once.

    Args:
        features: (B, C, H, W).
    """

    def __init__(self, features: torch.Tensor):
        self._maps, self._precise = [features], dict[int, torch.Tensor]()

    @classmethod
    def of(cls, features: "torch.Tensor | FeatureLevels") -> "FeatureLevels":
        """Those of a map (B, C, H, W), or what is given if it is that already."""
        return features if isinstance(features, FeatureLevels) else cls(features)

    @property
    def finest(self) -> torch.Tensor:
        """The map itself."""
        return self._maps[0]

    def precise(self, level: int) -> torch.Tensor:
        """The map (B, C, h, w) of a level in single precision or better, 0 for the map itself."""
        while len(self._maps) <= level:
            self._maps.append(functional.avg_pool2d(self._maps[-1], 2, ceil_mode=True))
        if level not in self._precise:
            self._precise[level] = self._maps[level].to(torch.promote_types(self.finest.dtype, torch.float32))
        return self._precise[level]


class WordSampler(nn.Module):
    """Straightens words of any size into crops of one size.

    A map is halved again and again by average pooling, and each word is cut out of the level at which a crop cell
    covers about one cell of the map: sampled too sparsely, large words would lose their strokes. Columns are sampled
    twice as densely and averaged, because words are more often too wide for the crop than too high.

    Args:
        crop_size: rows and columns of the crops.
        stride: of the map, in pixels of the network's input.
        num_levels: maps to choose from, the given one included.
        samples: that are averaged in each cell, along its height and along its width.
    """

    def __init__(self, crop_size: Sequence[int], stride: int, num_levels: int, samples: tuple[int, int] = (1, 2)):
        super().__init__()
        rows, columns = crop_size
        self.samples, self.sampled_size = samples, (rows * samples[0], columns * samples[1])
        self.stride = stride
        self.levels = nn.ModuleList(BezierAlign(self.sampled_size, stride * 2**level) for level in range(num_levels))

    def forward(
        self, features: torch.Tensor | FeatureLevels, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> torch.Tensor:
        """Maps (B, C, H, W), control points (N, 8, 2) in pixels of the input, images (N,) to crops (N, C, h, w)."""
        maps = FeatureLevels.of(features)
        chosen = self.choose_levels(control_points)
        crops, order = [], []
        for level in chosen.unique().tolist():
            here = (chosen == level).nonzero()[:, 0]
            crops.append(self.levels[level](maps.precise(level), control_points[here], batch_indices[here]))
            order.append(here)
        return self._averaged(torch.cat(crops)[torch.cat(order).argsort()]).to(maps.finest.dtype)

    def _averaged(self, sampled: torch.Tensor) -> torch.Tensor:
        """The means (N, C, h, w) of the samples in each cell; average pooling takes several times as long on a CPU."""
        down, across = self.samples
        parts = [sampled[..., row::down, column::across] for row in range(down) for column in range(across)]
        return sum(parts[1:], start=parts[0]) / len(parts)

    def choose_levels(self, control_points: torch.Tensor) -> torch.Tensor:
        """The level (N,) whose cells come closest to a word's samples."""
        rows, columns = self.sampled_size
        widths = word_lengths(control_points)
        cells = torch.maximum(word_heights(control_points) / rows, widths / columns) / self.stride
        return cells.clamp(min=1).log2().round().long().clamp(max=len(self.levels) - 1)


class MaskedBoxSampler(WordSampler):
    """Cuts out the axis-aligned boxes of words, and leaves nothing of what lies outside of their outlines.

    This is the hard RoI masking of Mask TextSpotter v3 (section 3.3) on features averaged over 2 x 2 samples in each
    cell (RoIAlign). A cell counts where its centre lies inside the outline.

    Args:
        crop_size: rows and columns of the crops.
        stride: of the map, in pixels of the network's input.
        num_levels: maps to choose from, the given one included.
        margin: what is added to height and width of the boxes, as a share of them.
    """

    def __init__(self, crop_size: Sequence[int], stride: int, num_levels: int, margin: float):
        super().__init__(crop_size, stride, num_levels, samples=(2, 2))
        self.crop_size, self.margin = (crop_size[0], crop_size[1]), margin

    def forward(
        self, features: torch.Tensor | FeatureLevels, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> torch.Tensor:
        """Maps (B, C, H, W), control points (N, 8, 2) in pixels of the input, images (N,) to crops (N, C, h, w)."""
        outlines = bezier_outlines(control_points)
        low, high = outlines.amin(dim=1), outlines.amax(dim=1)
        grown = self.margin / 2 * (high - low)
        boxes = torch.cat([low - grown, high + grown], dim=1)
        crops = super().forward(features, boxes_to_bezier(boxes), batch_indices)
        return crops * outline_masks(outlines, boxes, self.crop_size)[:, None].to(crops.dtype)


def bezier_outlines(control_points: torch.Tensor) -> torch.Tensor:
    """Outlines (N, 20, 2) of words (N, 8, 2), clockwise."""
    basis = control_points.new_tensor(bernstein_basis(np.linspace(0, 1, POINTS_PER_SIDE)))
    with torch.autocast(control_points.device.type, enabled=False):  # half precision would be off by several pixels
        return (basis @ control_points.unflatten(1, (2, 4))).flatten(1, 2)  # (N, 2, 4, 2) -> (N, 20, 2)


def boxes_to_bezier(boxes: torch.Tensor) -> torch.Tensor:
    """Control points (N, 8, 2) of boxes (N, 4) as x_min, y_min, x_max, y_max."""
    return quads_to_bezier(boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])


def outline_masks(outlines: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which cells (N, rows, columns) of boxes (N, 4) have their centre inside outlines (N, K, 2), by the even-odd rule.

    Args:
        outlines: pixels.
        boxes: x_min, y_min, x_max, y_max, pixels.
        size: rows and columns.
    """
    rows, columns = (
        boxes[:, [low]]
        + (torch.arange(count, device=boxes.device) + 0.5) / count * (boxes[:, [high]] - boxes[:, [low]])
        for count, low, high in ((size[0], 1, 3), (size[1], 0, 2))
    )
    (x, y), (next_x, next_y) = outlines.unbind(dim=-1), outlines.roll(-1, dims=1).unbind(dim=-1)  # (N, K) each
    crossed = (y[:, None] > rows[..., None]) != (next_y[:, None] > rows[..., None])  # (N, rows, K)
    slope = (next_x - x) / torch.where(next_y == y, 1, next_y - y)
    crossings = x[:, None] + (rows[..., None] - y[:, None]) * slope[:, None]  # (N, rows, K)
    left = crossed[:, :, None] & (columns[:, None, :, None] < crossings[:, :, None])  # (N, rows, columns, K)
    return left.sum(dim=-1) % 2 == 1


def word_heights(control_points: torch.Tensor) -> torch.Tensor:
    """Heights (N,) of words (N, 8, 2), the mean of both ends."""
    return (control_points[:, [0, 3]] - control_points[:, [7, 4]]).norm(dim=-1).mean(dim=1)


def word_lengths(control_points: torch.Tensor) -> torch.Tensor:
    """Lengths (N,) of words (N, 8, 2), the mean of both sides along their control points."""
    sides = control_points[:, [0, 1, 2, 4, 5, 6]] - control_points[:, [1, 2, 3, 5, 6, 7]]  # (N, 6, 2)
    return sides.norm(dim=-1).sum(dim=1) / 2


def with_ends(control_points: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Words (N, 8, 2) whose two ends are moved outward by shares (N,) of their height."""
    upper, lower = control_points[:, :4], control_points[:, 4:].flip(1)  # (N, 4, 2), both along the word
    middle = upper + lower
    ends = functional.normalize(torch.stack([middle[:, 0] - middle[:, 1], middle[:, 3] - middle[:, 2]], dim=1), dim=-1)
    ends = ends * (torch.stack([before, after], dim=1) * word_heights(control_points)[:, None])[..., None]  # (N, 2, 2)
    steps = torch.linspace(0, 1, 4, dtype=upper.dtype, device=upper.device)[:, None]  # (4, 1)
    # Points between the ends follow them, so that letters keep their places.
    outward = torch.lerp(ends[:, :1], ends[:, 1:], steps)  # (N, 4, 2)
    return torch.cat([upper + outward, (lower + outward).flip(1)], dim=1)


def with_margin(control_points: torch.Tensor, margin: float) -> torch.Tensor:
    """Words (N, 8, 2), enlarged on all sides by a share of their height."""
    upward = margin * (control_points[:, :4] - control_points[:, 4:].flip(1))  # (N, 4, 2)
    share = control_points.new_tensor(margin).expand(len(control_points))
    return with_ends(control_points, share, share) + torch.cat([upward, -upward.flip(1)], dim=1)
