"""Loss terms on maps that heads and the score map share."""

import torch
from torch.nn import functional

__all__ = ["balanced_binary_cross_entropy", "dice_loss", "masked_binary_cross_entropy", "score_map_loss"]


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
    hardest = _sum_of_largest((losses * negative).flatten(), int(num_negative))
    return ((losses * positive).sum() + hardest) / (num_positive + num_negative + 1e-6)


def _sum_of_largest(values: torch.Tensor, count: int) -> torch.Tensor:
    return values.topk(count).values.sum() if count else values.sum() * 0


def dice_loss(probabilities: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One minus the dice coefficient over the whole batch; all arguments (B, 1, H, W)."""
    intersection = (probabilities * targets * mask).sum()
    union = (probabilities * mask).sum() + (targets * mask).sum() + 1e-6
    return 1 - 2 * intersection / union


def masked_binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of all K classes over the pixels that count in any image of the batch (TCM for DOTA).

    It says which class an object is of, not where objects are: the background does not count.

    Args:
        logits: (B, K, H, W).
        targets: (B, K, H, W), 0 or 1.
        mask: (B, 1, H, W), 1 where a pixel counts.

    Returns:
        A scalar; zero, with a gradient of zero, where nothing counts.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * mask).sum() / (mask.sum() * logits.shape[1] + 1e-8)


def score_map_loss(logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, form: str) -> torch.Tensor:
    """Auxiliary loss on the score map (TCM).

    Args:
        logits: (B, K, h, w).
        targets: (B, 1 or K, H, W), of text or of each class.
        mask: (B, 1, H, W), 1 where a pixel counts.
        form: `"bce"` and `"dice"`, image by image, or `"masked_bce"`, over the batch.
    """
    if form == "masked_bce":
        # Over the whole batch: an image may hold no object, and would have no mean of its own.
        return masked_binary_cross_entropy(_resized(logits, targets), targets, mask)
    if targets.shape[1] == 1:
        logits = logits.amax(dim=1, keepdim=True)  # a pixel is text where any of the prompts says so
    images = zip(_resized(logits, targets).sigmoid().split(1), targets.split(1), mask.split(1), strict=True)
    if form == "dice":
        return torch.stack([dice_loss(*image) for image in images]).mean()
    return torch.stack([balanced_binary_cross_entropy(*image, negative_ratio=3.0) for image in images]).mean()


def _resized(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits (B, K, h, w) at the size (H, W) of the targets."""
    return functional.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
