"""The terms of a loss for the log, in short form: those of a head's earlier layers as one sum for each layer."""

import re
from collections.abc import Callable, Mapping

import torch

__all__ = ["LossTerms"]

# Heads with several decoder layers put the number of an earlier one at the end of its terms.
_OF_A_LAYER = re.compile(r"loss_.+_(\d+)")


class LossTerms:
    """Adds up the loss terms of batches until their means are taken.

    Attributes:
        sums: of each term over the batches, scalars; `loss_layer_0`, `loss_layer_1`, … are those of earlier layers.
        count: how many batches.
    """

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, loss_dict: Mapping[str, torch.Tensor] | None) -> None:
        """Take in the terms of a batch, scalars by name."""
        for name, term in (loss_dict or {}).items():
            layer = _OF_A_LAYER.fullmatch(name)
            short = f"loss_layer_{layer[1]}" if layer else name
            self.sums[short] = term.detach().float() + self.sums.get(short, torch.zeros(())).to(term.device)
        self.count += 1

    def take(self, gather: Callable[[torch.Tensor], torch.Tensor] | None = None) -> dict[str, float]:
        """Means of each term over the batches since the last call.

        Args:
            gather: joins the means (terms,) of all processes to (processes x terms,), which are averaged.
        """
        if not self.sums or not self.count:
            return {}
        names = sorted(self.sums)
        means = torch.stack([self.sums[name] for name in names]) / self.count  # (terms,)
        if gather is not None:
            means = gather(means).view(-1, len(names)).mean(dim=0)  # (processes x terms,) -> (terms,)
        self.sums, self.count = {}, 0
        return dict(zip(names, means.tolist(), strict=True))
