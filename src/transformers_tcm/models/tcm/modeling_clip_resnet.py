"""CLIP's modified ResNet with dense attention pooling, as a transformers backbone.

References: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP), 2021,
section 2.4; Rao et al., "DenseCLIP", CVPR 2022, for reading the attention pool at every position.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.utils import can_return_tuple

from .attention_tcm import TCMAttention, key_mask, reduced_tokens
from .configuration_tcm import TCMVisionConfig
from .hub_tcm import LoadsThroughShim
from .layers_tcm import TCMConvNorm

__all__ = ["TCMVisionBackbone", "TCMVisionOutput"]

STRIDE = 32


@dataclass
class TCMVisionOutput(BackboneOutput):
    """Feature maps of the chosen stages and the two readings of the attention pool.

    Args:
        global_embedding: (B, projection_dim) the image in CLIP's joint space; `None` without attention pool.
        local_embedding: (B, projection_dim, H/32, W/32) every position in that space, likewise.
        stem_features: (B, width, H/2, W/2) the stem's map before it is pooled, the finest one there is.
        attentions: the weights (B, heads, 1 + hw, 1 + hw) of the attention pool, where asked for.
    """

    global_embedding: torch.Tensor | None = None
    local_embedding: torch.Tensor | None = None
    stem_features: torch.Tensor | None = None


def normalized(pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Images (B, 3, H, W) uint8 of 0 … 255 as CLIP normalises them, float32; others are taken to be normalised.

    Training sends bytes to the device, and graphs may take them: they are a quarter of what normalised pixels are.
    With a mask (B, H, W) what is padded becomes zero, whatever the bytes there.
    """
    if pixel_values.dtype != torch.uint8:
        return pixel_values
    # Made on the device: a copy from the host would wait for all that the device has been told to do.
    mean, std = (
        torch.stack([torch.full((1, 1), 255 * value, device=pixel_values.device) for value in constant])
        for constant in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
    )
    pixel_values = (pixel_values - mean) / std
    # Image processors pad after they normalise, with zeros; a byte of zero would be black here.
    return pixel_values if pixel_mask is None else pixel_values * pixel_mask[:, None]


class TCMStem(nn.Sequential):
    """Three 3x3 convolutions and average pooling, in all stride 4."""

    def __init__(self, config: TCMVisionConfig):
        half, eps = config.width // 2, config.batch_norm_eps
        super().__init__(
            TCMConvNorm(config.num_channels, half, 3, eps, stride=2),
            TCMConvNorm(half, half, 3, eps),
            TCMConvNorm(half, config.width, 3, eps),
            nn.AvgPool2d(2),
        )

    def before_pooling(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W), normalised or of bytes, to the convolutions' map (B, width, H/2, W/2)."""
        *convs, _ = self
        # Weights come in the type they are stored in, pixels in float32 (as CLIP).
        pixel_values = normalized(pixel_values).to(convs[0].get_parameter("0.weight").dtype)
        for conv in convs:
            pixel_values = conv(pixel_values)
        return pixel_values


class TCMBottleneck(GradientCheckpointingLayer):
    """Residual bottleneck in which all convolutions have stride 1 and average pooling shrinks, on both paths."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, eps: float):
        super().__init__()
        out_channels = channels * self.expansion
        self.reduce = TCMConvNorm(in_channels, channels, 1, eps)
        self.conv = TCMConvNorm(channels, channels, 3, eps)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.expand = TCMConvNorm(channels, out_channels, 1, eps, relu=False)
        changes_shape = stride > 1 or in_channels != out_channels
        self.shortcut = TCMConvNorm(in_channels, out_channels, 1, eps, relu=False) if changes_shape else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = self.shortcut(self.pool(hidden_states))
        hidden_states = self.expand(self.pool(self.conv(self.reduce(hidden_states))))
        # In place, since new memory takes longer than the sum.
        return functional.relu(hidden_states.add_(residual), inplace=True)


# Called …Attention…, `set_attn_implementation` would look for the attention interface in this file and give up.
class TCMDensePool(nn.Module):
    """CLIP's attention pool read densely: the mean token and all positions attend to it and to all positions.

    The positional embedding has one row for the mean token and then a square grid, row by row, which is resized
    (bilinear, no aligned corners) to the grid of the input.
    """

    def __init__(self, config: TCMVisionConfig):
        super().__init__()
        hidden_size = config.hidden_sizes[-1]
        self.grid, self.sr_ratio = config.positional_grid, config.sr_ratio
        self.positional_embedding = nn.Parameter(torch.empty(self.grid**2 + 1, hidden_size))
        self.attention = TCMAttention(
            config, hidden_size, config.num_attention_heads, bias=True, output_size=config.projection_dim
        )

    def forward(
        self, feature_map: torch.Tensor, valid: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """C5 (B, D, h, w) and its valid positions (B, h, w) to the global (B, C) and local (B, C, h, w) embeddings.

        Last come the attention weights (B, heads, 1 + hw, 1 + hw), where the attention implementation gives any.
        """
        height, width = feature_map.shape[-2:]
        tokens = feature_map.flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, hw, D)
        valid = None if valid is None else valid.flatten(1)  # (B, h, w) -> (B, hw)
        if valid is None:
            mean = tokens.mean(dim=1, keepdim=True)
        else:
            weights = valid.to(tokens.dtype)
            mean = (weights / weights.sum(dim=1, keepdim=True))[:, None] @ tokens  # (B, 1, D)
        tokens = torch.cat([mean, tokens], dim=1)
        tokens = tokens + self.positions(height, width).to(tokens.dtype)
        memory, valid = reduced_tokens(tokens[:, 1:], (height, width), self.sr_ratio, valid)
        mask = None if valid is None else key_mask(functional.pad(valid, (1, 0), value=True), tokens.dtype)
        pooled, attentions = self.attention(tokens, torch.cat([tokens[:, :1], memory], dim=1), mask)
        local = pooled[:, 1:].transpose(1, 2).unflatten(2, (height, width))  # (B, hw, C) -> (B, C, h, w)
        return pooled[:, 0], local, attentions

    def positions(self, height: int, width: int) -> torch.Tensor:
        """Positional embedding (1 + height x width, D) of a grid of that size."""
        if not torch.compiler.is_compiling() and (height, width) == (self.grid, self.grid):
            return self.positional_embedding
        grid = self.positional_embedding[1:].unflatten(0, (1, self.grid, self.grid)).permute(0, 3, 1, 2)  # (1, D, g, g)
        resized = functional.interpolate(grid.float(), size=(height, width), mode="bilinear", align_corners=False)
        resized = resized[0].flatten(1).T.to(grid.dtype)  # (1, D, h, w) -> (hw, D)
        return torch.cat([self.positional_embedding[:1], resized])


class TCMImagePreTrainedModel(LoadsThroughShim, PreTrainedModel):
    """What every model with CLIP's ResNet in it tells transformers, and how that ResNet starts."""

    main_input_name = "pixel_values"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["TCMBottleneck"]
    _keys_to_ignore_on_load_missing = ["num_batches_tracked"]

    @classmethod
    def is_custom_code(cls) -> bool:
        """`False`: for custom code `_init_weights` is not called on modules without parameters of their own."""
        return False

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """See `PreTrainedModel.activation_checkpointing_enable`; batch norms still learn their statistics once."""
        settings = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if not settings["use_reentrant"]:
            settings.setdefault("context_fn", functools.partial(_checkpointing_contexts, self))
        super().activation_checkpointing_enable(settings, every_n_layers, offload)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming for convolutions, CLIP's scales for the attention pool; residual branches start as the identity."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, TCMDensePool):
            std = module.positional_embedding.shape[1] ** -0.5
            init.normal_(module.positional_embedding, std=std)
            attention = module.attention
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
                init.normal_(projection.weight, std=std)
        elif isinstance(module, TCMBottleneck):
            init.zeros_(module.expand[1].get_parameter("weight"))


def _checkpointing_contexts(model: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What a checkpointed layer is run in, and what it is run in again for the gradients."""
    return nullcontext(), _constant_statistics(model)


@contextmanager
def _constant_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norms keep their running statistics, and normalise with those of the batch as before."""
    momenta = {norm: norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)}
    try:
        for norm in momenta:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


def wants_attentions(config: PreTrainedConfig, output_attentions: bool | None) -> bool:
    """Whether attention weights are asked for, by the argument or else by the configuration.

    Raises:
        ValueError: if they are, and the attention implementation does not give any.
    """
    wanted = bool(config.output_attentions if output_attentions is None else output_attentions)
    if wanted and config._attn_implementation != "eager":
        raise ValueError(
            f"`output_attentions` needs the attention implementation 'eager', this model has "
            f"{config._attn_implementation!r}: from_pretrained(…, attn_implementation='eager') or "
            "model.set_attn_implementation('eager')"
        )
    return wanted


class TCMVisionBackbone(BackboneMixin, TCMImagePreTrainedModel):
    """CLIP's image encoder: stem, four stages, dense attention pool.

    `AutoBackbone.from_config(TCMVisionConfig())` builds it with the names `stem`, `stage1` … `stage4`.
    """

    config: TCMVisionConfig
    base_model_prefix = "vision"
    has_attentions = False
    attention_pool: TCMDensePool | None

    def __init__(self, config: TCMVisionConfig):
        super().__init__(config)
        self.num_features = [config.width, *config.hidden_sizes]
        self.stem = TCMStem(config)
        self.stages = nn.ModuleList()
        for index, depth in enumerate(config.depths):
            in_channels, channels = self.num_features[index], config.width * 2**index
            first = TCMBottleneck(in_channels, channels, 1 if index == 0 else 2, config.batch_norm_eps)
            others = (TCMBottleneck(4 * channels, channels, 1, config.batch_norm_eps) for _ in range(depth - 1))
            self.stages.append(nn.Sequential(first, *others))
        self.attention_pool = TCMDensePool(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first convolution, which pixels go into."""
        return self.stem[0].get_submodule("0")

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: object,
    ) -> TCMVisionOutput:
        """Encode a batch of images.

        Args:
            pixel_values: (B, num_channels, H, W), normalised or of bytes; H and W multiples of 32.
            pixel_mask: (B, H, W), 1 inside each image, 0 in the padding, to which nothing attends.
            output_hidden_states: also return the stem's and every stage's map as `hidden_states`.
            output_attentions: also return the weights of the attention pool, which takes eager attention.

        Raises:
            ValueError: if H or W is not a multiple of 32, or there are no attention weights to return.
        """
        output_attentions = wants_attentions(self.config, output_attentions)
        if pixel_values.shape[-2] % STRIDE or pixel_values.shape[-1] % STRIDE:
            raise ValueError(
                f"height and width must be multiples of {STRIDE}, got {tuple(pixel_values.shape[-2:])}; "
                "the image processor pads them"
            )
        stem_features = self.stem.before_pooling(normalized(pixel_values, pixel_mask))
        hidden_states = [self.stem[-1](stem_features)]
        for stage in self.stages:
            hidden_states.append(stage(hidden_states[-1]))
        # Images are padded right and bottom, so the first pixel of a cell tells whether any of it is image.
        valid = None if pixel_mask is None else pixel_mask[:, ::STRIDE, ::STRIDE].bool()
        global_embedding = local_embedding = weights = None
        if self.attention_pool is not None:
            global_embedding, local_embedding, weights = self.attention_pool(hidden_states[-1], valid)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        return TCMVisionOutput(
            feature_maps=tuple(
                states
                for name, states in zip(self.stage_names, hidden_states, strict=True)
                if name in self.out_features
            ),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=(weights,) if output_attentions and weights is not None else None,
            global_embedding=global_embedding,
            local_embedding=local_embedding,
            stem_features=stem_features,
        )
