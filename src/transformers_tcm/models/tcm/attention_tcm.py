"""Multi-head attention on the attention interface of transformers (eager, sdpa, …).

Reference for keys and values on a coarser grid than the queries: spatial-reduction attention, Wang et al., "Pyramid
Vision Transformer", ICCV 2021, with average pooling as in its second version (CVMJ 2022).
"""

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["AttentionInterface", "TCMAttention", "additive_mask", "follow_attention_of", "key_mask", "reduced_tokens"]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention spelled out: (B, heads, T, d) to (B, T, heads, d) and the weights (B, heads, T, S)."""
    weights = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def key_mask(valid: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Additive mask (B, 1, 1, S) from valid keys (B, S) bool, `None` where all keys are valid by construction."""
    if valid is None:
        return None
    return additive_mask(valid, dtype)[:, None, None, :]  # (B, S) -> (B, 1, 1, S)


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to logits (B, …, S): 0 where `visible` (B, …, S) bool, else the least number of the dtype."""
    mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill(~visible, torch.finfo(dtype).min)


def reduced_tokens(
    tokens: torch.Tensor, grid: tuple[int, int], ratio: int, valid: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tokens of a grid averaged over windows of `ratio` x `ratio`, so that fewer of them are attended to.

    Args:
        tokens: (B, hw, D).
        grid: h and w; the windows at the lower and the right border hold what is left.
        ratio: 1 leaves everything as it is.
        valid: (B, hw) bool, which tokens count; `None` where all do.

    Returns:
        Tokens (B, S, D), S = ceil(h / ratio) x ceil(w / ratio), and which (B, S) stand for any valid one, or `None`.
    """
    if ratio == 1:
        return tokens, valid
    maps = tokens.transpose(1, 2).unflatten(2, grid)  # (B, hw, D) -> (B, D, h, w)
    if valid is None:
        averages = functional.avg_pool2d(maps, ratio, ceil_mode=True, count_include_pad=False)
        return averages.flatten(2).transpose(1, 2), None
    weights = valid.unflatten(1, grid)[:, None].to(maps.dtype)  # (B, hw) -> (B, 1, h, w)
    share = _averaged_with_zeros(weights, ratio)
    averages = _averaged_with_zeros(maps * weights, ratio) / share.clamp(min=torch.finfo(share.dtype).tiny)
    return averages.flatten(2).transpose(1, 2), share.flatten(1) > 0


def _averaged_with_zeros(maps: torch.Tensor, ratio: int) -> torch.Tensor:
    """Averages of windows, those at the border filled up with zeros: OpenVINO computes no window larger than a map."""
    return functional.avg_pool2d(functional.pad(maps, (0, ratio - 1, 0, ratio - 1)), ratio)


class AttentionInterface:
    """What a layer with `head_dim` and `dropout` needs to attend by the implementation that its model chose.

    Attributes:
        config: any configuration that carries the chosen implementation; parts that are built without one get it with
            `follow_attention_of`, and are computed by "sdpa" until then.
    """

    config: PreTrainedConfig | None = None
    is_causal = False
    training: bool
    head_dim: int
    dropout: float

    def attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Projected (B, T, D), (B, S, D) and (B, S, D) under an additive mask (B, 1, 1 or T, S): (B, T, D), and the
        weights (B, heads, T, S) of implementations that have them."""
        implementation = "sdpa" if self.config is None else self.config._attn_implementation
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attended, weights = attention(
            self,
            *(self._split_heads(states) for states in (queries, keys, values)),
            attention_mask,
            scaling=self.head_dim**-0.5,
            dropout=self.dropout if self.training else 0.0,
            is_causal=False,
        )
        return attended.flatten(2), weights  # (B, T, heads, d) -> (B, T, D)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, T, D) -> (B, heads, T, d)


class TCMAttention(AttentionInterface, nn.Module):
    """Queries attend to keys and values of the same width.

    Args:
        config: see `AttentionInterface`.
        hidden_size: width of queries, keys and values.
        num_heads: attention heads.
        bias: whether the query, key and value projections have one; the output projection always does.
        output_size: width of the result, by default `hidden_size`.
        dropout: share of the weights that are left out in training.
    """

    def __init__(
        self,
        config: PreTrainedConfig | None,
        hidden_size: int,
        num_heads: int,
        bias: bool,
        output_size: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.config = config
        self.dropout = dropout
        self.head_dim = hidden_size // num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.out_proj = nn.Linear(hidden_size, output_size or hidden_size)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, D) attending to (B, S, D) under an additive mask (B, 1, 1, S): (B, T, D_out) and any weights."""
        attended, weights = self.attend(self.q_proj(queries), self.k_proj(memory), self.v_proj(memory), attention_mask)
        return self.out_proj(attended), weights


def follow_attention_of(config: PreTrainedConfig, part: nn.Module) -> None:
    """Let the attention layers of a part that knows no configuration use the implementation that a model chose."""
    for module in part.modules():
        if isinstance(module, AttentionInterface):
            module.config = config
