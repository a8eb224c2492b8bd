"""Exponential moving average of a model's weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["ExponentialMovingAverage"]

FILE_NAME = "ema.safetensors"


class ExponentialMovingAverage:
    """Averages parameters and buffers, warming up so that the first steps are forgotten quickly.

    Args:
        model: the model; averages start from its weights.
        decay: share of the old average that a step keeps, in [0, 1); at step n at most (1 + n) / (10 + n).

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.num_updates = 0
        self.averages = {name: tensor.detach().clone() for name, tensor in _float_state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the averages towards the model's weights; call it after each optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        state = _float_state(model)
        move = get_ema_multi_avg_fn(decay)
        move(list(self.averages.values()), [state[name] for name in self.averages], self.num_updates)

    def synchronize(self) -> None:
        """Take the averages of the first process: the statistics of batch norms differ between processes."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for average in self.averages.values():
                torch.distributed.broadcast(average, src=0)

    @torch.no_grad()
    def copy_to(self, model: nn.Module, synchronize: bool = False) -> None:
        """Put the averages, with `synchronize` those of the first process, in place of the model's weights."""
        if synchronize:
            self.synchronize()
        state = _float_state(model)
        for name, average in self.averages.items():
            state[name].copy_(average)

    @contextmanager
    def applied(self, model: nn.Module, synchronize: bool = False) -> Iterator[None]:
        """The averages, with `synchronize` those of the first process, in place of the weights in a `with` block."""
        weights = {name: tensor.clone() for name, tensor in _float_state(model).items()}
        self.copy_to(model, synchronize)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _float_state(model).items():
                    tensor.copy_(weights[name])

    def save(self, folder: str | Path) -> None:
        """Write the averages and the number of updates to a checkpoint folder."""
        from safetensors.torch import save_file

        tensors = {name: average.contiguous() for name, average in self.averages.items()}
        save_file(tensors, Path(folder) / FILE_NAME, metadata={"num_updates": str(self.num_updates)})

    def load(self, folder: str | Path) -> bool:
        """Read what `save` wrote; `False` where the folder holds no averages.

        Raises:
            ValueError: if they belong to another model.
        """
        from safetensors import safe_open

        path = Path(folder) / FILE_NAME
        if not path.is_file():
            return False
        with safe_open(path, framework="pt") as file:
            self._check_names(file.keys(), str(path))
            for name, average in self.averages.items():
                average.copy_(file.get_tensor(name))
            self.num_updates = int(file.metadata()["num_updates"])
        return True

    def _check_names(self, names: Iterable[str], source: str) -> None:
        different = sorted(set(names) ^ set(self.averages))
        if different:
            raise ValueError(f"{source} holds the averages of another model; they differ in {different[:5]}")


def _float_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers in floating point; counters are left out."""
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
