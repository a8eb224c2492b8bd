"""Where words begin and end along the regions that a detector found: some cut a word off, others hold several.

A crop that reaches a little further than its region on both ends is encoded as if it were a word, and every step of it
is told to lie in a word or not. Runs of steps that do are words, whose ends take the place of the region's.

Shapes: N regions, T steps of a crop, D the hidden size, M labelled words.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ....bezier import bernstein_basis
from .sampling import bezier_outlines, with_ends, with_margin, word_heights, word_lengths

__all__ = ["REACH", "TCMWordBoundaries", "inside_words", "mostly_within", "moved_at_random", "words_along"]

# Heights of a region that its crop reaches further on each end.
REACH = 0.6
# Heights that labelled words end earlier on each side, so that a step between neighbours lies in none of them.
_GAP = 0.07
# Heights: shorter runs are specks, ends that are closer to the region's are the region's.
_SHORTEST, _SAME_END = 0.25, 0.15
# Places at which each step of a crop is looked up in the labels.
_SAMPLES = 4


class TCMWordBoundaries(nn.Module):
    """States (N, T, D) along crops to logits (N, T, 1) of lying in a word."""

    def __init__(self, hidden_size: int):
        super().__init__()
        width = hidden_size // 2
        self.norm = nn.LayerNorm(hidden_size)
        self.narrow = nn.Conv1d(hidden_size, width, 5, padding=2)
        self.neighbours = nn.Conv1d(width, width, 5, padding=2)
        self.classifier = nn.Conv1d(width, 1, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        columns = functional.gelu(self.narrow(self.norm(states).transpose(1, 2)))  # (N, T, D) -> (N, D / 2, T)
        columns = columns + functional.gelu(self.neighbours(columns))
        logits: torch.Tensor = self.classifier(columns).transpose(1, 2)
        return logits


def words_along(logits: np.ndarray, reach: float) -> list[tuple[float, float]]:
    """Where the words of a region begin and end, in shares of its length, below 0 and above 1 beyond its ends.

    Words that the region touches but little are those of its neighbours. Where there is none, the region stays as it
    is: (0, 1).

    Args:
        logits: (T,) of the steps of its crop.
        reach: share of the region's length that the crop reaches further on each end.
    """
    height = reach / REACH
    found = []
    for first, last in _runs(logits):
        # From shares of the crop to shares of the region.
        begin, end = (share * (1 + 2 * reach) - reach for share in (first, last))
        if end - begin >= _SHORTEST * height and mostly_within(begin, end):
            found.append((max(begin - _GAP * height, -reach), min(end + _GAP * height, 1 + reach)))
    same = _SAME_END * height
    snapped = [(0.0 if abs(a) < same else a, 1.0 if abs(b - 1) < same else b) for a, b in found]
    return snapped or [(0.0, 1.0)]


def mostly_within(begin: float, end: float) -> bool:
    """Whether more than half of what lies between two shares of a region's length lies within it."""
    return min(end, 1.0) - max(begin, 0.0) > 0.5 * (end - begin)


def _runs(logits: np.ndarray) -> list[tuple[float, float]]:
    """Runs of positive logits (T,), as shares of the crop; between steps they are interpolated."""
    steps = np.arange(len(logits)) + 0.5
    positive = np.concatenate([[False], logits > 0, [False]])
    begins, ends = np.flatnonzero(~positive[:-1] & positive[1:]), np.flatnonzero(positive[:-1] & ~positive[1:])
    runs = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        first, last = 0.0, float(len(logits))
        if begin > 0:
            first = np.interp(0, logits[begin - 1 : begin + 1], steps[begin - 1 : begin + 1])
        if end < len(logits):
            last = np.interp(0, logits[[end, end - 1]], steps[[end, end - 1]])
        runs.append((first / len(logits), last / len(logits)))
    return runs


def moved_at_random(control_points: torch.Tensor) -> torch.Tensor:
    """Words (M, 8, 2) with ends where a detector may put them: a little off, within the word, beyond its neighbours."""
    count, device = len(control_points), control_points.device
    heights, lengths = word_heights(control_points), word_lengths(control_points)
    aspects = (lengths / heights.clamp(min=1e-3))[:, None]
    off = 0.13 * torch.randn(count, 2, device=device)
    # Both ends together leave half a height at least.
    within = -torch.rand(count, 2, device=device) * (aspects - 0.5).clamp(min=0) / 2
    beyond = 0.2 + 3.8 * torch.rand(count, 2, device=device)
    kind = torch.rand(count, 2, device=device)
    ends = torch.where(kind < 0.5, off, torch.where(kind < 0.7, within, beyond))
    return with_ends(control_points, ends[:, 0], ends[:, 1])


def inside_words(
    crops: torch.Tensor,
    crop_images: torch.Tensor,
    words: torch.Tensor,
    word_images: torch.Tensor,
    ignored: torch.Tensor,
    num_steps: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `TCMWordBoundaries` learns: the share (N, T) of each step that lies in a word, and which steps count (N, T).

    Steps that touch an ignored word, of which it is not known where its parts end, do not count.

    Args:
        crops: (N, 8, 2) control points.
        crop_images: (N,) the image that each is in.
        words: (M, 8, 2) control points of all labelled words.
        word_images: (M,) the image that each is in.
        ignored: (M,) bool.
        num_steps: T.
    """
    shares = (np.arange(num_steps * _SAMPLES) + 0.5) / (num_steps * _SAMPLES)
    upper, lower = (crops.new_tensor(bernstein_basis(side)) for side in (shares, 1 - shares))
    with torch.autocast(crops.device.type, enabled=False):  # coordinates in half precision would be off by pixels
        lines = (upper @ crops[:, :4] + lower @ crops[:, 4:]) / 2  # (N, T x samples, 2) midway between the curves
    outlines = bezier_outlines(torch.where(ignored[:, None, None], words, with_margin(words, -_GAP)))
    # One group of samples for each step.
    inside, unknown = lines.new_zeros(2, *lines.shape[:2]).unbind()
    for image in crop_images.unique():
        here, there = crop_images == image, word_images == image
        within = _within(lines[here], outlines[there])  # (n, T x samples, m)
        inside[here] = within[..., ~ignored[there]].any(dim=-1).float()
        unknown[here] = within[..., ignored[there]].any(dim=-1).float()
    return inside.unflatten(1, (num_steps, _SAMPLES)).mean(dim=-1), unknown.unflatten(1, (num_steps, _SAMPLES)).amax(
        dim=-1
    ) == 0


def _within(points: torch.Tensor, outlines: torch.Tensor) -> torch.Tensor:
    """Which points (…, 2) lie in which outlines (m, K, 2), by the even-odd rule: (…, m)."""
    x, y = (values[..., None, None] for values in points.unbind(dim=-1))  # (…, 1, 1)
    (from_x, from_y), (to_x, to_y) = outlines.unbind(dim=-1), outlines.roll(-1, dims=1).unbind(dim=-1)  # (m, K)
    crossed = (from_y > y) != (to_y > y)  # (…, m, K)
    slope = (to_x - from_x) / torch.where(to_y == from_y, 1, to_y - from_y)
    return (crossed & (x < from_x + (y - from_y) * slope)).sum(dim=-1) % 2 == 1
