"""Words cut out of feature maps and straightened, differentiably.

Reference: Liu et al., "ABCNet: Real-time Scene Text Spotting with Adaptive Bezier-Curve Network", CVPR 2020, section
2.2 (BezierAlign).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ....bezier import bernstein_basis

__all__ = ["BezierAlign", "quads_to_bezier"]


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
        sampled = F.grid_sample(image, tall, mode="bilinear", padding_mode="border", align_corners=False)
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
