"""Optimizers of the papers that transformers has no name for.

- Adam with weight decay in the gradient (D. Kingma and J. Ba, 2015), SGD with momentum 0.9;
- Ranger: RAdam (L. Liu et al., 2020) with LookAhead (M. Zhang et al., 2019) and centralised gradients (H. Yong et al.,
  2020), with the settings of the TCM release: LookAhead 0.5 every 6 steps, betas (0.95, 0.999), epsilon 1e-5.

`pytorch-optimizer` has a Ranger too, among a hundred others; here it is `torch.optim.RAdam` and a dozen lines.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import SGD, Adam, Optimizer, RAdam

__all__ = ["OPTIMIZERS", "Ranger"]


class Ranger(RAdam):
    """RAdam on centralised gradients; every few steps the weights go back part of the way to where LookAhead left them.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: of the averages of gradients and of their squares.
        eps: added to the root of the latter.
        weight_decay: added to the gradients.
        lookahead_steps: steps between two looks ahead.
        lookahead_alpha: share of the way that the slow weights go to the fast ones.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        *,
        lookahead_steps: int = 6,
        lookahead_alpha: float = 0.5,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
        self.lookahead_steps, self.lookahead_alpha = lookahead_steps, lookahead_alpha

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters with a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        # RAdam takes a parameter for new as long as its state is empty.
        started = {p: p.detach().clone() for p in moved if p not in self.state}
        for p in moved:
            if p.grad.ndim > 1:
                p.grad -= p.grad.mean(dim=tuple(range(1, p.grad.ndim)), keepdim=True)
        super().step()
        for p in moved:
            state = self.state[p]
            slow = state.setdefault("slow_weights", started.get(p))
            if int(state["step"]) % self.lookahead_steps == 0:
                slow.lerp_(p, self.lookahead_alpha)
                p.copy_(slow)
        return loss


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "ranger": Ranger,
    "sgd": partial(SGD, momentum=0.9),
}
