"""Loss terms on maps that heads and the score map share."""

import torch
from torch.nn import functional

__all__ = ["balanced_binary_cross_entropy", "dice_loss"]


def balanced_binary_cross_entropy(
    probabilities: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, negative_ratio: float
) -> torch.Tensor:
    """Cross-entropy over all positives and the hardest negatives of the batch (DBNet, Liao et al., AAAI 2020).

    Args:
        probabilities: (B, 1, H, W) in [0, 1].
        targets: (B, 1, H, W), 0 or 1.
        mask: (B, 1, H, W), 1 where a pixel counts.
        negative_ratio: negatives for each positive. A batch without positives has no hardest negatives to balance
            against and gives zero for them, as the released losses do.

    Returns:
        A scalar; zero, with a gradient of zero, where nothing counts.
    """
    positive = targets * mask
    negative = (1 - targets) * mask
    num_positive = positive.sum()
    num_negative = torch.minimum(negative.sum(), num_positive * negative_ratio).int()
    losses = functional.binary_cross_entropy(probabilities, targets, reduction="none")
    hardest = _sum_of_top_k((losses * negative).flatten(), int(num_negative))
    return ((losses * positive).sum() + hardest) / (num_positive + num_negative + 1e-6)


def _sum_of_top_k(values: torch.Tensor, count: int) -> torch.Tensor:
    return values.topk(count).values.sum() if count else values.sum() * 0


def dice_loss(probabilities: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One minus the dice coefficient over the whole batch; all arguments (B, 1, H, W)."""
    intersection = (probabilities * targets * mask).sum()
    union = (probabilities * mask).sum() + (targets * mask).sum() + 1e-6
    return 1 - 2 * intersection / union
