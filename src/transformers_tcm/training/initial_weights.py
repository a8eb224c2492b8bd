"""Start a model with the weights of another one, which may lack some of its parts."""

import os

import torch
from torch.nn import functional

from ..models.auto import AutoModelForTextDetection
from ..models.tcm.modeling_tcm import TCMForTextDetection

__all__ = ["load_initial_weights"]


@torch.no_grad()
def load_initial_weights(model: TCMForTextDetection, checkpoint: str | os.PathLike[str]) -> list[str]:
    """Copy what a checkpoint has; what it lacks keeps the weights it has.

    A layer that takes more channels than in the checkpoint, such as the one that the score map is concatenated for,
    ignores the last ones at first: their weights are zero. A detector that was trained without prompting
    (`prompting="none"`) thus finds the same when it is prompted, until it is trained on.

    Args:
        model: the model to start, in place.
        checkpoint: folder or name on the Hub of a detector or spotter.

    Returns:
        Names of the parameters and buffers that the checkpoint lacks.

    Raises:
        ValueError: for a weight of another size, or if nothing is there to copy.
    """
    source = AutoModelForTextDetection.from_pretrained(checkpoint, dtype="float32").state_dict()
    own = model.state_dict()
    missing = [name for name in own if name not in source]
    if len(missing) == len(own):
        raise ValueError(f"{checkpoint} has none of the weights of a {type(model).__name__}")
    model.load_state_dict(
        {name: _fitted(name, source[name], weight.shape) for name, weight in own.items() if name in source},
        strict=False,
    )
    return missing


def _fitted(name: str, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A weight (out, in, ...) with zeros for further input channels."""
    added = shape[1] - weight.shape[1] if weight.ndim > 1 and len(shape) > 1 else 0
    if added > 0:
        weight = functional.pad(weight, (*[0, 0] * (weight.ndim - 2), 0, added))
    if weight.shape != shape:
        raise ValueError(
            f"{name} is {tuple(weight.shape)} in the checkpoint and {tuple(shape)} in the model; give the model the "
            "checkpoint's preset and sizes"
        )
    return weight
