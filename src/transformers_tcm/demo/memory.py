"""What the networks gave for the last photos and words, kept so that other thresholds only decode again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..models.tcm.recognition.sampling import FeatureLevels

__all__ = ["RecentResults", "remember_outputs"]

# A photo is looked at up to three times, and up to four times more where its text is turned.
_MOST_INPUTS = 7
# Of a feature map; each takes some 20 kB.
_MOST_WORDS = 2048


class RecentResults:
    """Results by their keys, the latest ones.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._results: OrderedDict[Hashable, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def of(self, keys: Sequence[Hashable], compute: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """The result for each key; `compute` gives those that are missing, of which it gets the indices."""
        missing = [index for index, key in enumerate(keys) if key not in self._results]
        new = dict(zip((keys[index] for index in missing), compute(missing), strict=True)) if missing else {}
        found = [new[key] if key in new else self._results[key] for key in keys]
        for key, result in zip(keys, found, strict=True):
            self._results[key] = result
            self._results.move_to_end(key)
        while len(self._results) > self.limit:
            self._results.popitem(last=False)
        return found


def remember_outputs(model: Any) -> None:
    """Let a model compute each input once, in place, for calls without labels in evaluation mode.

    Image encoder and head give the same tensors again for the same pixels, and the recogniser and its search are asked
    only for words that they have not seen: of other thresholds only decoding is left, and words whose outline is new.
    Kept are the tensors of the last few inputs; what belongs to one is forgotten with it.

    Args:
        model: a detector or spotter of this package.
    """
    # On the instances: `Module.__call__`, and with it all hooks, stay as they are.
    model.model.forward = _once_for_pixels(model.model.forward)
    model.head.forward = _once_for_features(model.head.forward)
    recognizer = getattr(model, "recognizer", None)
    if recognizer is not None:
        recognizer.forward = _once_for_words(recognizer.forward)
        recognizer.find_words = _once_for_words(recognizer.find_words)
        recognizer.decode = _once_for_logits(recognizer.decode)


def _once_for_pixels(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Of the image encoder: outputs by pixels (B, 3, H, W) and mask (B, H, W)."""
    recent = RecentResults(_MOST_INPUTS)

    def remembered(
        pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None, *more: Any, **others: Any
    ) -> Any:
        key = (*map(_digest, (pixel_values, pixel_mask)), more, tuple(sorted(others.items())))
        return recent.of([key], lambda _: [forward(pixel_values, pixel_mask, *more, **others)])[0]

    return remembered


def _once_for_features(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Of the head: maps by the features, which are themselves remembered and hence the same tensors."""
    by_features = WeakTensorKeyDictionary()

    def remembered(inputs: Any, with_training_maps: bool = True) -> Any:
        maps = by_features.setdefault(inputs.stem, {})
        if with_training_maps not in maps:
            maps[with_training_maps] = forward(inputs, with_training_maps)
        return maps[with_training_maps]

    return remembered


def _once_for_words(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Of the recogniser: logits (N, T, classes), or a list of what it makes of N words, word by word."""
    by_features = WeakTensorKeyDictionary()

    def remembered(
        features: torch.Tensor | FeatureLevels, control_points: torch.Tensor, batch_indices: torch.Tensor
    ) -> Any:
        if not len(control_points):
            return compute(features, control_points, batch_indices)
        recent = by_features.setdefault(FeatureLevels.of(features).finest, RecentResults(_MOST_WORDS))
        keys = [*zip(map(_digest, control_points), batch_indices.tolist(), strict=True)]
        found = recent.of(keys, lambda indices: compute(features, control_points[indices], batch_indices[indices]))
        return torch.stack(found) if isinstance(found[0], torch.Tensor) else found

    return remembered


def _once_for_logits(decode: Callable[..., Any]) -> Callable[..., Any]:
    """Of the search: readings of logits (N, V, T, classes), word by word."""
    recent = RecentResults(_MOST_WORDS)

    def remembered(
        char_logits: torch.Tensor, use_language_model: bool = True, text_threshold: float | torch.Tensor = 0.0
    ) -> list[Any]:
        least = torch.as_tensor(text_threshold).expand(len(char_logits))
        known = zip(char_logits, least.tolist(), strict=True)
        keys = [(_digest(logits), use_language_model, threshold) for logits, threshold in known]
        return recent.of(keys, lambda indices: decode(char_logits[indices], use_language_model, least[indices]))

    return remembered


def _digest(tensor: torch.Tensor | None) -> Hashable:
    """Shape, type and a hash of the values."""
    if tensor is None:
        return None
    # Bytes, because numpy has no bfloat16; a tensor of no dimensions has none.
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tuple(tensor.shape), tensor.dtype, hashlib.blake2b(values.tobytes()).digest()
