"""Set prediction: words assigned to queries one to one, and the losses of what is assigned.

References: Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020; Zhang et al., "Text
Spotting Transformers" (TESTR), CVPR 2022; Ye et al., "DeepSolo: Let Transformer Decoder with Explicit Points Solo for
Text Spotting", CVPR 2023; Graves et al., "Connectionist Temporal Classification" (CTC), ICML 2006.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from .base import Labels, split_by_image
from .boxes import focal_loss

__all__ = [
    "Matching",
    "Words",
    "ctc_text_costs",
    "ctc_text_loss",
    "focal_cost",
    "hungarian_matching",
    "only",
    "set_focal_loss",
    "slot_text_loss",
    "text_classes",
    "words_of",
]

# Of pairs whose cost is not finite: assigned only where there is nothing else.
WORST_COST = 1e6


class Matching(NamedTuple):
    """The M pairs of a query and a word.

    Args:
        images: (M,) the image of the query.
        queries: (M,) the query, or token, in its image.
        words: (M,) the word among those of all images.
    """

    images: torch.Tensor
    queries: torch.Tensor
    words: torch.Tensor


class Words(NamedTuple):
    """The G words of a batch, those of the first image first.

    Args:
        geometry: what targets of the head are there by name, (G, …) float32 each, coordinates in [0, 1] of the image.
        classes: (G, T) the characters, padded with the last class.
        usable: (G,) bool, whether to learn them: the others are matched for their queries to learn nothing.
        legible: (G,) bool, whether to learn their characters.
        counts: words of each image.
        total: how many are usable, averaged over all processes, and at least 1.
    """

    geometry: dict[str, torch.Tensor]
    classes: torch.Tensor
    usable: torch.Tensor
    legible: torch.Tensor
    counts: list[int]
    total: torch.Tensor


def words_of(labels: Labels, geometry: Sequence[str]) -> Words:
    """The words of a batch of labels, with the `geometry` of these names.

    Raises:
        ValueError: if the labels were not made for this head.
    """
    parts = {name: split_by_image(labels, name) for name in (*geometry, "word_classes", "word_usable", "word_legible")}
    joined = {name: torch.cat(images) for name, images in parts.items()}
    usable = joined["word_usable"].bool()
    return Words(
        {name: joined[name].float() for name in geometry},
        joined["word_classes"].long(),
        usable,
        usable & joined["word_legible"].bool(),
        [len(images) for images in parts["word_usable"]],
        _mean_over_processes(usable.sum()).clamp(min=1),
    )


def _mean_over_processes(count: torch.Tensor) -> torch.Tensor:
    """A count, averaged over the processes of a distributed training."""
    count = count.float()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


def hungarian_matching(costs: Sequence[torch.Tensor]) -> Matching:
    """The cheapest one-to-one assignment of the words of each image to its queries.

    Args:
        costs: for each image (Q, G), the cost of every query for every word. With more words than queries some words
            are left over.

    Raises:
        ImportError: without SciPy, which training needs and inference does not.
    """
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("training this head needs SciPy; install it with `pip install scipy`") from error
    device, shapes = costs[0].device, [cost.shape for cost in costs]
    # One transfer for the whole batch: each waits for the GPU.
    values = torch.cat([cost.detach().flatten() for cost in costs]).double().cpu().numpy()
    values = np.nan_to_num(values, nan=WORST_COST, posinf=WORST_COST, neginf=WORST_COST)
    pairs, start, first_word = [], 0, 0
    for image, (num_queries, num_words) in enumerate(shapes):
        cost = values[start : start + num_queries * num_words].reshape(num_queries, num_words)
        queries, words = linear_sum_assignment(cost)
        pairs.append(np.stack([np.full_like(queries, image), queries, first_word + words]))
        start, first_word = start + cost.size, first_word + num_words
    images, queries, words = torch.from_numpy(np.concatenate(pairs, axis=1).astype(np.int64)).to(device)
    return Matching(images, queries, words)


def only(matching: Matching, which: torch.Tensor) -> Matching:
    """The pairs whose word is among those of a mask (G,)."""
    chosen = which[matching.words]
    return Matching(*(indices[chosen] for indices in matching))


def focal_cost(logits: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """How much the focal loss falls where logits (B, Q, N) or (B, S) are taken for words, float32."""
    probabilities = logits.float().sigmoid()
    positive = alpha * (1 - probabilities) ** gamma * -(probabilities + 1e-8).log()
    negative = (1 - alpha) * probabilities**gamma * -(1 - probabilities + 1e-8).log()
    return positive - negative


def set_focal_loss(logits: torch.Tensor, matching: Matching, words: Words) -> torch.Tensor:
    """Focal loss of all queries: the mean over their points, the sum over queries, for each word.

    Queries of words that are not usable do not count.

    Args:
        logits: (B, Q, N), or (B, Q) for tokens.
        matching: which queries have a word.
        words: of the batch.
    """
    usable = words.usable[matching.words]
    targets = torch.zeros(logits.shape[:2], device=logits.device)  # (B, Q)
    targets[matching.images, matching.queries] = 1.0
    weights = torch.ones_like(targets)
    weights[matching.images, matching.queries] = usable.float()
    logits = logits.float().flatten(2) if logits.ndim == 3 else logits.float()[..., None]
    losses = focal_loss(logits, targets[..., None].expand_as(logits)).mean(dim=-1)  # (B, Q, N) -> (B, Q)
    return (losses * weights).sum() / words.total


def ctc_text_costs(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """CTC loss of every query for every word of an image, for each character, (Q, G) float32.

    Words that do not fit into the steps cost nothing, whichever the query.

    Args:
        logits: (Q, T, C), blank last.
        classes: (G, L) the characters, padded with C - 1.
    """
    num_queries, num_words = len(logits), len(classes)
    losses = _ctc(logits.repeat_interleave(num_words, dim=0), classes.repeat(num_queries, 1))
    return losses.view(num_queries, num_words)


def ctc_text_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean over words of their CTC loss for each character; 0 without words, and for those that do not fit.

    Args:
        logits: (M, T, C), blank last.
        classes: (M, L) the characters, padded with C - 1.
    """
    return (_ctc(logits, classes).sum() + logits.sum() * 0) / max(len(logits), 1)


def _ctc(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """CTC loss (M,) of each word, divided by its characters."""
    if not len(logits):
        return logits.new_zeros(0, dtype=torch.float32)
    blank = logits.shape[-1] - 1
    lengths = (classes != blank).sum(dim=1)
    steps = torch.full_like(lengths, logits.shape[1])
    log_probabilities = logits.float().log_softmax(dim=-1).transpose(0, 1)  # (M, T, C) -> (T, M, C)
    losses = functional.ctc_loss(
        log_probabilities, classes, steps, lengths, blank=blank, reduction="none", zero_infinity=True
    )
    return losses / lengths.clamp(min=1)


def slot_text_loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over all slots of all words, those of the padding too; 0 without words.

    Args:
        logits: (M, T, C).
        classes: (M, T).
    """
    losses = functional.cross_entropy(logits.float().flatten(0, 1), classes.flatten(), reduction="sum")
    return losses / max(classes.numel(), 1)


def text_classes(texts: Sequence[str | None], charset: str, length: int, fold_case: bool = False) -> np.ndarray:
    """Classes (N, length) int64 of texts, which are cut at `length`.

    `len(charset)` stands for all characters outside of the charset, and one more for the padding.
    """
    places = {character: index for index, character in enumerate(charset)}
    classes = np.full((len(texts), length), len(charset) + 1, dtype=np.int64)
    for row, text in zip(classes, texts, strict=True):
        text = (text or "").lower() if fold_case else text or ""
        known = [places.get(character, len(charset)) for character in text[:length]]
        row[: len(known)] = known
    return classes
