"""Loss terms on maps that heads and the score map share."""

import torch
from torch.nn import functional

__all__ = [
    "balanced_binary_cross_entropy",
    "dice_loss",
    "kth_largest",
    "masked_binary_cross_entropy",
    "score_map_loss",
    "sum_of_largest",
]


def balanced_binary_cross_entropy(
    probabilities: torch.Tensor,
    targets: torch.Tensor,
    mask: torch.Tensor,
    negative_ratio: float,
    by_image: bool = False,
) -> torch.Tensor:
    """Cross-entropy over all positives and the hardest negatives of the batch (DBNet, Liao et al., AAAI 2020).

    Args:
        probabilities: (B, K, H, W) in [0, 1].
        targets: (B, K, H, W), 0 or 1.
        mask: (B, 1, H, W), 1 where a pixel counts.
        negative_ratio: negatives for each positive. A batch without positives has no hardest negatives to balance
            against and gives zero for them, as the released losses do.
        by_image: the mean of the losses of the images, each with hardest negatives of its own, in place of that of the
            batch as a whole.

    Returns:
        A scalar; zero, with a gradient of zero, where nothing counts.
    """
    losses = functional.binary_cross_entropy(probabilities, targets, reduction="none")
    groups = len(losses) if by_image else 1
    positive, negative = (weights.reshape(groups, -1) for weights in (targets * mask, (1 - targets) * mask))
    losses = losses.reshape(groups, -1)  # (B, K, H, W) -> (B or 1, pixels)
    num_positive = positive.sum(dim=1)
    num_negative = torch.minimum(negative.sum(dim=1), num_positive * negative_ratio).int()
    hardest = sum_of_largest(losses * negative, num_negative)
    return (((losses * positive).sum(dim=1) + hardest) / (num_positive + num_negative + 1e-6)).mean()


def dice_loss(
    probabilities: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, by_image: bool = False
) -> torch.Tensor:
    """One minus the dice coefficient over the whole batch, or the mean of the images'; all arguments (B, K, H, W)."""
    axes = (1, 2, 3) if by_image else (0, 1, 2, 3)
    intersection = (probabilities * targets * mask).sum(dim=axes)
    union = (probabilities * mask).sum(dim=axes) + (targets * mask).sum(dim=axes) + 1e-6
    return (1 - 2 * intersection / union).mean()


def sum_of_largest(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sum (G,) of the `counts` (G,) largest of each row of values (G, N) float32; equal ones share the gradient."""
    threshold = kth_largest(values.detach(), counts)[:, None]
    above, equal = values > threshold, values == threshold
    share = (counts - above.sum(dim=1)) / equal.sum(dim=1).clamp(min=1)
    return torch.where(above, values, 0).sum(dim=1) + share * torch.where(equal, values, 0).sum(dim=1)


def kth_largest(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The `counts`-th largest (G,) of each row of values (G, N) float32, infinity where the count (G,) is 0.

    `topk` has to know the counts on the host, so that an accelerator waits for it. This does not: bit by bit it finds
    the largest number that enough values reach.
    """
    if values.device.type == "cpu":
        largest = [
            row.kthvalue(len(row) + 1 - count).values if count else row.new_tensor(torch.inf)
            for row, count in zip(values, counts.tolist(), strict=True)
        ]
        return torch.stack(largest)
    found = _bisected(_ordered(values), counts)
    return torch.where(counts > 0, _ordered(found.view(torch.float32)).view(torch.float32), torch.inf)


def _ordered(values: torch.Tensor) -> torch.Tensor:
    """Bits int32 of float32 numbers, in whose order they are; applied twice, the bits of the numbers."""
    bits = values.contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _bisected(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The largest number (G,) that `counts` (G,) of each row of values (G, N) reach, all int32."""
    found = torch.full_like(counts, -(2**31), dtype=torch.int64)
    for bit in range(31, -1, -1):
        larger = found + 2**bit
        reached = (values >= larger.int()[:, None]).sum(dim=1) >= counts
        found = torch.where(reached, larger, found)
    return found.int()


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
    probabilities = _resized(logits, targets).sigmoid()
    if form == "dice":
        return dice_loss(probabilities, targets, mask, by_image=True)
    return balanced_binary_cross_entropy(probabilities, targets, mask, negative_ratio=3.0, by_image=True)


def _resized(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits (B, K, h, w) at the size (H, W) of the targets."""
    return functional.interpolate(logits, size=targets.shape[-2:], mode="bilinear", align_corners=False)
