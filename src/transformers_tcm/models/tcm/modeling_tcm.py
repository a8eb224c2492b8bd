"""TCM and FastTCM: prompting CLIP into a text detector.

References: Yu et al., "Turning a CLIP Model into a Scene Text Detector" (TCM), CVPR 2023;
Yu et al., "Turning a CLIP Model Into a Scene Text Spotter" (FastTCM), TPAMI 2024.

Shapes: B images, K prompts, C the joint space (`projection_dim`), D the width of the text tower, h x w = H/32 x W/32.
"""

import math
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, can_return_tuple, logging

from ...saving import WEIGHT_FILES, atomic_write
from .attention_tcm import TCMAttention, follow_attention_of, key_mask, reduced_tokens
from .backends import emulates, fastest_cpu_dtype
from .configuration_tcm import TCMConfig
from .heads import head_class
from .heads.base import DetectionHead, HeadInputs
from .hub_tcm import take_publication_options
from .layers_tcm import TCMConvNorm
from .loading_tcm import check_precision, configurations, is_default_precision, new_parts
from .losses_tcm import score_map_loss
from .modeling_clip_resnet import (
    STRIDE,
    TCMImagePreTrainedModel,
    TCMVisionBackbone,
    TCMVisionOutput,
    wants_attentions,
)

logger = logging.get_logger(__name__)

__all__ = [
    "TCMDetector",
    "TCMForTextDetection",
    "TCMModel",
    "TCMModelOutput",
    "TCMPreTrainedModel",
    "TCMTextDetectionOutput",
]


@dataclass
class TCMModelOutput(ModelOutput):
    """What prompting makes of an image; without any (`"none"`) there are only maps of the image encoder.

    Args:
        feature_maps: C2 … C5 of the image encoder, (B, C_i, H / stride, W / stride) at strides 4, 8, 16, 32.
        score_map: (B, K, h, w) cosine of every position with the text, in [-1, 1] (times the learned scale, if there
            is one).
        score_logits: (B, K, h, w) the score map as logits, cosine / temperature.
        global_embedding: (B, C) the image in CLIP's joint space.
        local_embedding: (B, C, h, w) every position in that space, before the visual prompt.
        language_prompt: (1 or B, D) what is added to every token of the prompt; `None` in a fused model.
        prompted_text_embedding: (1 or B, K, C) the text encoder's output.
        text_embedding: (B, K, C) the text after matching and refinement.
        stem_features: (B, width, H/2, W/2) the image encoder's finest map.
        hidden_states: maps of the stem and the four stages, where asked for.
        attentions, decoder_attentions, cross_attentions: where asked for, weights of the attention pool
            (B, heads, 1 + hw, 1 + hw), and of each layer of the visual prompt generator and, after them, of the text
            refiner: those of the queries among each other (B, heads, T, T) and to the memory (B, heads, T, S).
    """

    feature_maps: tuple[torch.Tensor, ...] | None = None
    score_map: torch.Tensor | None = None
    score_logits: torch.Tensor | None = None
    global_embedding: torch.Tensor | None = None
    local_embedding: torch.Tensor | None = None
    language_prompt: torch.Tensor | None = None
    prompted_text_embedding: torch.Tensor | None = None
    text_embedding: torch.Tensor | None = None
    stem_features: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    decoder_attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class TCMTextDetectionOutput(ModelOutput):
    """Output of `TCMForTextDetection`; the image processor's `post_process_text_detection` turns it into polygons.

    Args:
        loss: scalar, the sum of `loss_dict`, where labels are given.
        loss_dict: weighted loss terms by name.
        head_output: the head's maps by name, for example a `DBNetOutput`.
        score_map: (B, K, h, w) cosine of every position with the text; `None` without prompting.
        valid_sizes: (B, 2) height and width of each image within the padded input.
        hidden_states: maps of the stem and the four stages, where asked for.
        attentions, decoder_attentions, cross_attentions: as in `TCMModelOutput`, where asked for.
    """

    loss: torch.Tensor | None = None
    loss_dict: dict[str, torch.Tensor] | None = None
    head_output: ModelOutput | None = None
    score_map: torch.Tensor | None = None
    valid_sizes: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    decoder_attentions: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Nested outputs become tuples as well."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class TCMLanguagePromptGenerator(nn.Sequential):
    """What the text encoder is told, (…, C) to (…, D): LN, linear, ReLU, LN, linear (TCM)."""

    def __init__(self, embedding_size: int, token_size: int):
        super().__init__(
            nn.LayerNorm(embedding_size),
            nn.Linear(embedding_size, embedding_size),
            nn.ReLU(),
            nn.LayerNorm(embedding_size),
            nn.Linear(embedding_size, token_size),
        )


class TCMTextEncoder(nn.Module):
    """CLIP's text tower with learnable context tokens after the start token and a language prompt on every token."""

    def __init__(self, config: TCMConfig):
        super().__init__()
        text_config = config.text_config
        self.config = text_config
        self.prompt_token_ids = config.prompt_token_ids
        self.context = nn.Parameter(torch.empty(1, config.num_context_tokens or 0, text_config.hidden_size))
        self.text_model = CLIPTextModel._from_config(text_config)
        self.text_projection = nn.Linear(text_config.hidden_size, config.projection_dim, bias=False)

    def forward(self, language_prompt: torch.Tensor) -> torch.Tensor:
        """Language prompts (B, D) to text embeddings (B, K, C)."""
        ids = torch.tensor(self.prompt_token_ids, device=language_prompt.device)
        tokens = self.text_model.embeddings.token_embedding(ids)
        context = self.context.expand(len(ids), -1, -1)
        tokens = torch.cat([tokens[:, :1], context, tokens[:, 1:]], dim=1)  # (K, L, D), start token first
        tokens = tokens[None] + language_prompt[:, None, None]  # (B, K, L, D)
        states = self.text_model.embeddings(inputs_embeds=tokens.flatten(0, 1))  # (B, K, L, D) -> (BK, L, D)
        mask = create_causal_mask(
            config=self.text_model.config, inputs_embeds=states, attention_mask=None, past_key_values=None
        )
        states = self.text_model.encoder(inputs_embeds=states, attention_mask=mask, is_causal=True).last_hidden_state
        states = self.text_model.final_layer_norm(states).unflatten(0, tokens.shape[:2])  # (B, K, L, D)
        # The end token has the largest id; further end tokens are padding.
        end = ids.argmax(dim=1) + self.context.shape[1]
        return self.text_projection(states[:, torch.arange(len(ids), device=ids.device), end])


class TCMDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm self-attention, cross-attention and MLP."""

    def __init__(self, config: TCMConfig):
        super().__init__()
        size, heads = config.decoder_hidden_size, config.decoder_num_heads
        self.self_attention = TCMAttention(config, size, heads, bias=False)
        self.cross_attention = TCMAttention(config, size, heads, bias=False)
        self.self_attention_norm = nn.LayerNorm(size)
        self.cross_attention_norm = nn.LayerNorm(size)
        self.mlp_norm = nn.LayerNorm(size)
        self.mlp = nn.Sequential(
            nn.Linear(size, 4 * size), nn.GELU(), nn.Dropout(config.decoder_dropout), nn.Linear(4 * size, size)
        )
        self.dropout = nn.Dropout(config.decoder_dropout)
        self.sr_ratio = config.vision_config.sr_ratio

    def forward(
        self,
        hidden_states: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor | None,
        grid: tuple[int, int] | None,
        valid: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """(B, T, D) and (B, S, D) to (B, T, D); then the weights of both attentions, where there are any."""
        normed = self.self_attention_norm(hidden_states)
        keys = normed
        if grid is not None:
            keys, valid = reduced_tokens(normed, grid, self.sr_ratio, valid)
        attended, self_weights = self.self_attention(normed, keys, key_mask(valid, normed.dtype))
        hidden_states = hidden_states + self.dropout(attended)
        normed = self.cross_attention_norm(hidden_states)
        attended, cross_weights = self.cross_attention(normed, memory, memory_mask)
        hidden_states = hidden_states + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states))), self_weights, cross_weights


class DecodedQueries(NamedTuple):
    """What a `TCMPromptDecoder` gives.

    Args:
        queries: (B, T, C).
        decoder_attentions: (B, heads, T, T) of each layer; `None` where the attention implementation gives none.
        cross_attentions: (B, heads, T, S) likewise.
    """

    queries: torch.Tensor
    decoder_attentions: tuple[torch.Tensor | None, ...] = ()
    cross_attentions: tuple[torch.Tensor | None, ...] = ()


class TCMPromptDecoder(nn.Module):
    """Reads a memory into queries, both in the joint space: visual prompt generator and text refiner are one each."""

    def __init__(self, config: TCMConfig):
        super().__init__()
        joint, size = config.projection_dim, config.decoder_hidden_size
        self.query_proj = nn.Sequential(nn.LayerNorm(joint), nn.Linear(joint, size))
        self.memory_proj = nn.Sequential(nn.LayerNorm(joint), nn.Linear(joint, size), nn.LayerNorm(size))
        self.layers = nn.ModuleList(TCMDecoderLayer(config) for _ in range(config.decoder_num_layers))
        self.output_proj = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, joint))

    def forward(
        self,
        queries: torch.Tensor,
        memory: torch.Tensor,
        memory_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
        valid: torch.Tensor | None = None,
    ) -> DecodedQueries:
        """(B, T, C) and (B, S, C) to (B, T, C).

        Args:
            queries, memory: what reads and what is read.
            memory_mask: additive, (B, 1, 1, S).
            grid: h and w of queries that are the positions of a map, T = h x w.
            valid: (B, T) which queries are attended to by the others, `None` for all.
        """
        hidden_states, memory = self.query_proj(queries), self.memory_proj(memory)
        weights = []
        for layer in self.layers:
            hidden_states, *pair = layer(hidden_states, memory, memory_mask, grid, valid)
            weights.append(pair)
        return DecodedQueries(self.output_proj(hidden_states), *zip(*weights, strict=True))


class TCMPreTrainedModel(TCMImagePreTrainedModel):
    """Base class of all TCM models: loading, saving and initialisation."""

    config: TCMConfig
    base_model_prefix = "model"
    # The Trainer must divide by the accumulation steps itself.
    accepts_loss_kwargs = False
    # Whether the precision of the weights is what the checkpoint came with, and nobody's choice.
    _has_default_precision = False
    # Between the parts of it, sums are made that no device map could know of.
    _no_split_modules = ["TCMModel"]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """See `PreTrainedModel.from_pretrained`; nothing in a file of weights is ever executed.

        Raises:
            ValueError: also if the weights are truncated, or no weights at all.
        """
        from safetensors import SafetensorError

        has_default_precision = is_default_precision(kwargs)
        try:
            loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
            (loaded[0] if isinstance(loaded, tuple) else loaded)._has_default_precision = has_default_precision
            return loaded
        except (SafetensorError, pickle.UnpicklingError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"the weights in {pretrained_model_name_or_path} cannot be read: a file is truncated, damaged or of "
                f"another kind ({reason}). "
                "Nothing in it was executed. Copy or download the model again"
            ) from error

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """See `PreTrainedModel.save_pretrained`; an older model there is replaced when all files have been written.

        If that fails, as on a full disk, the older model stays as it was; with `distributed_checkpoint` the files are
        written in place. With `push_to_hub=True` what `push_to_hub` does follows, by default to the repository named
        as the folder.
        """
        pushed = kwargs.pop("push_to_hub", False)
        publication = take_publication_options(kwargs)
        if kwargs.get("distributed_checkpoint"):
            super().save_pretrained(save_directory, *args, **kwargs)
        else:
            # Weights of other variants are not those of an older model.
            replaced = () if kwargs.get("variant") else WEIGHT_FILES
            with atomic_write(save_directory, replaced) as folder:
                super().save_pretrained(folder, *args, **kwargs)
        if pushed:
            shards = {"max_shard_size": kwargs["max_shard_size"]} if "max_shard_size" in kwargs else {}
            named_as_folder = os.path.basename(os.path.normpath(save_directory))
            self.push_to_hub(publication.pop("repo_id", named_as_folder), **publication, **shards)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:  # type: ignore[override]
        """Publish a complete repository: weights, configuration, image processor settings, model card and its picture.

        Args:
            repo_id: owner and name of the repository, created where it does not exist.
            **kwargs: see `transformers_tcm.hub.publishing.push_model`; `image_processor=` and `card=` matter most.

        Returns:
            The `CommitInfo` of huggingface_hub.
        """
        from ...hub.publishing import push_model  # the models know nothing of what is on top of them

        return push_model(self, repo_id, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, TCMTextEncoder):
            # As CLIP's token embeddings; the released code starts 50 times larger.
            init.normal_(module.context, std=0.02)
            init.normal_(module.text_projection.weight, std=module.config.hidden_size**-0.5)
        elif isinstance(module, (TCMLanguagePromptGenerator, TCMPromptDecoder)):
            for linear in (layer for layer in module.modules() if isinstance(layer, nn.Linear)):
                init.trunc_normal_(linear.weight, std=0.02)
        elif isinstance(module, TCMModel):
            self._init_prompts(module)
        elif isinstance(module, DetectionHead):
            module.init_weights()  # after its layers, whose turn comes first

    def _init_prompts(self, model: "TCMModel") -> None:
        if model.visual_scale is not None:
            init.constant_(model.visual_scale, self.config.residual_scale)
        if model.text_scale is not None:
            init.constant_(model.text_scale, self.config.residual_scale)
        if model.logit_scale is not None:
            init.constant_(model.logit_scale, math.log(1 / self.config.temperature))
        if model.meta_query is not None:
            init.normal_(model.meta_query)
        if model.fused_text_embedding is not None:
            init.zeros_(model.fused_text_embedding)


class TCMModel(TCMPreTrainedModel):
    """CLIP's image encoder prompted with text: features and the instance-language score map, without a head.

    Args:
        config: its settings.
    """

    visual_prompt_generator: TCMPromptDecoder | None
    visual_scale: nn.Parameter | None
    text_refiner: TCMPromptDecoder | None
    text_scale: nn.Parameter | None
    logit_scale: nn.Parameter | None
    text_encoder: TCMTextEncoder | None
    language_prompt_generator: TCMLanguagePromptGenerator | None
    meta_query: nn.Parameter | None
    fused_text_embedding: torch.Tensor | None
    _cached_text_embedding: torch.Tensor | None

    def __init__(self, config: TCMConfig):
        super().__init__(config)
        self.backbone = TCMVisionBackbone._from_config(config.vision_config)
        if config.prompting == "none":
            self._set_fused(None)
            self.backbone.attention_pool = None
            self.visual_prompt_generator = self.text_refiner = None
            self.visual_scale = self.text_scale = self.logit_scale = None
        else:
            self._add_prompting(config)
        # Kept between calls in evaluation mode; as a buffer it follows the model to other devices.
        self.register_buffer("_cached_text_embedding", None, persistent=False)
        self.register_load_state_dict_post_hook(TCMModel._forget_text_embedding)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The first convolution of the image encoder, which pixels go into."""
        return self.backbone.get_input_embeddings()

    def _add_prompting(self, config: TCMConfig) -> None:
        joint = config.projection_dim
        self.visual_prompt_generator = TCMPromptDecoder(config) if config.visual_prompt else None
        self.visual_scale = nn.Parameter(torch.empty(())) if config.visual_prompt else None
        self.text_refiner = TCMPromptDecoder(config) if config.text_refiner else None
        self.text_scale = nn.Parameter(torch.empty(joint)) if config.text_refiner else None
        self.logit_scale = nn.Parameter(torch.empty(())) if config.learnable_logit_scale else None
        if config.fused:
            self._set_fused(torch.zeros(1, len(config.prompts or ()), joint))
        else:
            self.text_encoder = TCMTextEncoder(config)
            self.language_prompt_generator = TCMLanguagePromptGenerator(joint, config.text_config.hidden_size)
            self.meta_query = nn.Parameter(torch.empty(joint)) if config.prompting == "fasttcm" else None
            self.register_buffer("fused_text_embedding", None)

    def _set_fused(self, text_embedding: torch.Tensor | None) -> None:
        self.text_encoder = self.language_prompt_generator = self.meta_query = None
        self.register_buffer("fused_text_embedding", text_embedding)

    def _forget_text_embedding(self, *_: object) -> None:
        self._cached_text_embedding = None

    def _warn_of_emulation(self) -> None:
        """Weights come in the type they are stored in, which not every processor computes with."""
        if not torch.compiler.is_compiling() and self.device.type == "cpu" and emulates(self.dtype):
            dtype = str(self.dtype).removeprefix("torch.")
            logger.warning_once(
                f"this processor has no instructions for {dtype} and takes some 20 times as long as in float32; load "
                "with from_pretrained(…, dtype='float32') or call optimize_for_inference()"
            )

    def train(self, mode: bool = True) -> "TCMModel":
        self._forget_text_embedding()
        return super().train(mode)

    @torch.no_grad()
    def fuse_text_embeddings(self) -> "TCMModel":
        """Fold meta query, context and text tower into a stored text embedding and drop them (FastTCM).

        Outputs stay the same; the text can no longer be trained. A fused model is left as it is.

        Raises:
            ValueError: for prompting `"tcm"`, whose text depends on each image, and for `"none"`, which has no text.
        """
        if self.config.prompting == "tcm":
            raise ValueError("prompting 'tcm' prompts with each image's embedding and cannot be fused; use 'fasttcm'")
        if self.config.prompting == "none":
            raise ValueError("prompting 'none' has no text tower that could be fused; use the model as it is")
        if not self.config.fused:
            self._forget_text_embedding()
            embedding, _ = self._prompted_text_embedding(None)
            self._forget_text_embedding()
            self._set_fused(embedding.clone())
            self.config.fused = True
        return self

    def _prompted_text_embedding(
        self, global_embedding: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text embedding (1 or B, K, C) and the language prompt (1 or B, D) it was made with."""
        if self.fused_text_embedding is not None:
            return self.fused_text_embedding, None
        assert self.text_encoder is not None  # these are dropped only for a stored embedding
        assert self.language_prompt_generator is not None
        source = global_embedding if self.meta_query is None else self.meta_query[None]
        language_prompt = self.language_prompt_generator(source)
        reusable = self.meta_query is not None and not self.training and not torch.is_grad_enabled()
        if not reusable:
            return self.text_encoder(language_prompt), language_prompt
        if self._cached_text_embedding is None:
            self._cached_text_embedding = self.text_encoder(language_prompt)
        return self._cached_text_embedding, language_prompt

    def _match(self, text: torch.Tensor, global_embedding: torch.Tensor) -> torch.Tensor:
        """Bimodal similarity matching, t + cos(g, t) g (FastTCM): (1, K, C) and (B, C) to (B, K, C)."""
        image = global_embedding[:, None]
        similarity = functional.cosine_similarity(text.float(), image.float(), dim=-1)[..., None].to(text)  # (B, K, 1)
        if self.config.normalized_matching:
            text, image = functional.normalize(text, dim=-1), functional.normalize(image, dim=-1)
        return text + similarity * image

    def _refine(
        self, text: torch.Tensor, global_embedding: torch.Tensor, local: torch.Tensor, valid: torch.Tensor | None
    ) -> DecodedQueries:
        """Text (B, K, C) updated from the image's global and local (B, hw, C) embeddings."""
        if self.text_refiner is None:
            return DecodedQueries(text)
        context = torch.cat([global_embedding[:, None], local], dim=1)  # (B, 1 + hw, C)
        mask = None if valid is None else key_mask(functional.pad(valid, (1, 0), value=True), context.dtype)
        refined = self.text_refiner(text, context, memory_mask=mask)
        return refined._replace(queries=text + self.text_scale * refined.queries)

    def _prompt_locally(
        self, local: torch.Tensor, text: torch.Tensor, grid: torch.Size, valid: torch.Tensor | None
    ) -> DecodedQueries:
        """Local embeddings (B, hw, C) with the visual prompt that the text (B, K, C) makes."""
        if self.visual_prompt_generator is None:
            return DecodedQueries(local)
        prompt = self.visual_prompt_generator(local, text, grid=grid, valid=valid)
        return prompt._replace(queries=local + self.visual_scale * prompt.queries)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: object,
    ) -> TCMModelOutput:
        """Prompt a batch of images.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            pixel_mask: (B, H, W), 1 inside each image, 0 in the padding right and below.
            output_hidden_states: also return the maps of stem and stages.
            output_attentions: also return attention weights, which takes eager attention.

        Raises:
            ValueError: if there are no attention weights to return.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        output_attentions = wants_attentions(self.config, output_attentions)
        if output_attentions and self.config.prompting == "none":
            raise ValueError("prompting 'none' leaves no attention in the model, so there are no weights to return")
        self._warn_of_emulation()
        vision = self.backbone(
            pixel_values,
            pixel_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        prompted = {} if self.config.prompting == "none" else self._prompt(vision, pixel_mask)
        if not output_attentions:
            prompted = {name: value for name, value in prompted.items() if not name.endswith("attentions")}
        return TCMModelOutput(
            feature_maps=vision.feature_maps,
            stem_features=vision.stem_features,
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            **prompted,
        )

    def _prompt(self, vision: TCMVisionOutput, pixel_mask: torch.Tensor | None) -> dict[str, Any]:
        """Score map, embeddings and weights of the decoders, as fields of the output."""
        assert vision.local_embedding is not None  # only prompting "none" is without
        assert vision.global_embedding is not None
        valid = None if pixel_mask is None else pixel_mask[:, ::STRIDE, ::STRIDE].bool().flatten(1)  # (B, hw)
        local = vision.local_embedding.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, hw, C)
        prompted, language_prompt = self._prompted_text_embedding(vision.global_embedding)
        text = prompted.to(local.dtype)
        if self.config.prompting == "fasttcm" and self.config.matching:
            text = self._match(text, vision.global_embedding)
        else:
            text = text.expand(local.shape[0], -1, -1)  # (1 or B, K, C) -> (B, K, C)
        grid = vision.local_embedding.shape[-2:]
        visual_prompt = self._prompt_locally(local, text, grid, valid)
        refined = self._refine(text, vision.global_embedding, local, valid)
        # In float32, because the epsilon of a norm is zero in half precision.
        directions = [
            functional.normalize(values.float(), dim=-1).to(values.dtype)
            for values in (visual_prompt.queries, refined.queries)
        ]
        cosine = directions[0] @ directions[1].transpose(1, 2)
        score_map = cosine.transpose(1, 2).unflatten(2, grid)  # (B, hw, K) -> (B, K, h, w)
        if self.logit_scale is None:
            score_logits = score_map / self.config.temperature
        else:
            score_map = score_logits = self.logit_scale.exp() * score_map
        return {
            "score_map": score_map,
            "score_logits": score_logits,
            "global_embedding": vision.global_embedding,
            "local_embedding": vision.local_embedding,
            "language_prompt": language_prompt,
            "prompted_text_embedding": prompted,
            "text_embedding": refined.queries,
            "decoder_attentions": visual_prompt.decoder_attentions + refined.decoder_attentions,
            "cross_attentions": visual_prompt.cross_attentions + refined.cross_attentions,
        }


class TCMDetector(TCMPreTrainedModel):
    """TCM with a detection head: what models of all tasks share.

    Args:
        config: its settings; `head_type` names the head.
    """

    _output_class: ClassVar[type] = TCMTextDetectionOutput

    def __init__(self, config: TCMConfig):
        super().__init__(config)
        self.model = TCMModel(config)
        *channels, last = self.model.backbone.channels
        head = head_class(config.head_type)
        self._check_head(head)
        self.head = head(config.head_settings, [*channels, last + config.num_score_maps], config.num_labels or 1)
        follow_attention_of(config, self.head)
        # Loading in float16 leaves these in float32, and no device map takes the head apart.
        self._keep_in_fp32_modules = [f"head.{name}" for name in head.keep_in_float32]
        self._no_split_modules = [*self._no_split_modules, head.__name__]
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """See `TCMPreTrainedModel.from_pretrained`; a head of another `head_type` than stored starts at random."""
        found = configurations(pretrained_model_name_or_path, kwargs)
        if found is None or not found.replaces_head:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        wants_report = found.arguments.pop("output_loading_info", False)
        arguments = {**found.arguments, "ignore_mismatched_sizes": True, "output_loading_info": True}
        model, report = super().from_pretrained(pretrained_model_name_or_path, *args, **arguments)
        logger.warning(
            f"the head {found.chosen.head_type!r} is new, the checkpoint has {found.stored.head_type!r}: "
            f"{', '.join(new_parts(report))} start at random and have to be trained"
        )
        return (model, report) if wants_report else model

    def _check_head(self, head: type[DetectionHead]) -> None:
        """Raise `ValueError` for a head that another model is for."""
        raise NotImplementedError

    def half(self, *args: Any) -> Self:
        """Cast to float16 all but what exceeds its reach, as loading with `dtype="float16"` does."""
        with self._keeping_float32():
            return super().half(*args)

    def to(self, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]
        """See `torch.nn.Module.to`; what exceeds the reach of float16 is left in float32."""
        with self._keeping_float32():
            return super().to(*args, **kwargs)

    @contextmanager
    def _keeping_float32(self) -> Iterator[None]:
        """Parts of the head that a cast to float16 in here leaves as they were, but for their device."""
        kept = [self.head.get_submodule(name) for name in self.head.keep_in_float32]
        before = [(part, part.state_dict()) for part in kept if next(part.parameters()).dtype != torch.float16]
        yield
        for part, weights in before:
            if next(part.parameters()).dtype == torch.float16:
                part.float().load_state_dict(weights)

    def fuse_text_embeddings(self) -> Self:
        """Fold the text tower into a stored embedding, in place; see `TCMModel.fuse_text_embeddings`."""
        self.model.fuse_text_embeddings()
        return self

    @torch.no_grad()
    def optimize_for_inference(self, dtype: torch.dtype | Literal["fastest"] | None = "fastest") -> Self:
        """Make what follows as fast as torch alone computes it, in place; `train()` undoes all but the dtype.

        Evaluation mode, in which the text embedding that does not depend on the image (FastTCM) is kept after the first
        call; batch norms are folded into their convolutions once; convolutions see channels last. All weights stay, so
        that the model can still be saved. In float32 outputs change by less than 1e-5; in bfloat16 probabilities by
        less than 0.05, and by less than 0.005 on average.

        Args:
            dtype: `"fastest"` is bfloat16 on processors with instructions for it (AVX512-BF16) and float32 on others,
                elsewhere bfloat16 where the device has it; `None` leaves it.
        """
        if dtype == "fastest":
            has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            dtype = fastest_cpu_dtype() if self.device.type == "cpu" else (torch.bfloat16 if has_bfloat16 else None)
        if dtype is not None:
            self.to(dtype)
        self.to(memory_format=torch.channels_last)
        self.eval()
        for module in self.modules():
            # Weights that are elsewhere (`device_map`) are nowhere until they are used.
            if isinstance(module, TCMConvNorm) and module.get_parameter("0.weight").device.type != "meta":
                module.fold()
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        labels: Mapping[str, torch.Tensor] | None = None,
        output_training_maps: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        **kwargs: object,
    ) -> Any:
        """Detect in a batch of images.

        Args:
            pixel_values: (B, 3, H, W), normalised; H and W multiples of 32.
            pixel_mask: (B, H, W), 1 inside each image, 0 in the padding right and below; the whole map without one.
            labels: the head's targets of all images by name, as `TextDetectionCollator` makes them.
            output_training_maps: also compute the maps that only the loss needs.
            output_hidden_states: also return the maps of stem and stages.
            output_attentions: also return attention weights, which takes eager attention.

        Raises:
            ValueError: if the labels lack the head's targets, or are those of other images, or weights are trained
                in the half precision that they happen to be stored in.
            TypeError: if the labels are not joined to one dictionary for the batch.
        """
        self._check_labels(labels, pixel_values)
        outputs = self.model(pixel_values, pixel_mask, output_hidden_states, output_attentions, return_dict=True)
        sizes = valid_sizes(pixel_values, pixel_mask)
        with_training_maps = self.training or output_training_maps or labels is not None
        maps = self._detect(outputs, pixel_mask, sizes, with_training_maps)
        loss_dict = None if labels is None else self._detection_losses(maps, outputs.score_logits, labels)
        return self._output_class(
            loss=None if loss_dict is None else torch.stack(list(loss_dict.values())).sum(),
            loss_dict=loss_dict,
            head_output=maps,
            score_map=outputs.score_map,
            valid_sizes=sizes,
            **recorded(outputs),
        )

    def _check_labels(self, labels: Any, pixel_values: torch.Tensor) -> None:
        """Raise unless there are no labels, or the model can learn of them."""
        check_labels(labels, pixel_values)
        if labels is not None and self.training and torch.is_grad_enabled() and self._has_default_precision:
            check_precision(self)

    def _detect(
        self, outputs: TCMModelOutput, pixel_mask: torch.Tensor | None, sizes: torch.Tensor, with_training_maps: bool
    ) -> ModelOutput:
        """The head's maps, from the pyramid with the score map, if there is one, concatenated to C5."""
        assert outputs.feature_maps is not None  # `TCMModel` always gives them
        assert outputs.stem_features is not None
        *pyramid, last = outputs.feature_maps
        score_map = outputs.score_map if self.head.score_map_input == "cosine" else outputs.score_logits
        if score_map is not None:
            last = torch.cat([last, score_map.to(last.dtype)], dim=1)
        inputs = HeadInputs((*pyramid, last), outputs.stem_features, sizes, pixel_mask, outputs.score_map)
        maps: ModelOutput = self.head(inputs, with_training_maps)
        return maps

    @property
    def _score_map_loss_form(self) -> str:
        return self.head.score_map_loss

    def _detection_losses(
        self, maps: ModelOutput, score_logits: torch.Tensor | None, labels: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        # Cross-entropy of probabilities is unsafe in half precision, and refused by CUDA's autocast.
        with torch.autocast(self.device.type, enabled=False):
            loss_dict = self.head.loss(maps, labels)
            if score_logits is None:
                return loss_dict
            targets, mask = self.head.score_map_targets(labels)
            loss = score_map_loss(score_logits.float(), targets, mask, self._score_map_loss_form)
            return {**loss_dict, "loss_score_map": self.config.score_map_loss_weight * loss}


class TCMForTextDetection(TCMDetector):
    """TCM with a head that finds text.

    Args:
        config: its settings; `head_type` names the head.

    Raises:
        ValueError: for a head that also reads, or finds oriented objects.
    """

    # The rest of a spotter's checkpoint, whose detector this is.
    _keys_to_ignore_on_load_unexpected = [r"^recognizer\."]

    def _check_head(self, head: type[DetectionHead]) -> None:
        """A detector says what it leaves out of a spotter's checkpoint."""
        if head.task != "text":
            raise ValueError(
                f"the head {self.config.head_type!r} finds oriented objects; use TCMForOrientedObjectDetection"
            )
        if head.reads:
            raise ValueError(f"the head {self.config.head_type!r} finds and reads at once; use TCMForTextSpotting")
        if self.config.recognizer is not None:
            logger.warning_once(
                "this is the detector of a spotter, its recogniser is left out; AutoModelForTextSpotting loads both"
            )


def recorded(outputs: TCMModelOutput) -> dict[str, Any]:
    """The fields of states and weights that were asked for, which outputs of heads pass on."""
    names = ("hidden_states", "attentions", "decoder_attentions", "cross_attentions")
    return {name: outputs[name] for name in names if outputs.get(name) is not None}


def check_labels(labels: Any, pixel_values: torch.Tensor) -> None:
    """Raise unless there are no labels, or those of as many images.

    Raises:
        TypeError: for anything but a dictionary of tensors.
        ValueError: for those of other images.
    """
    if labels is None:
        return
    if not isinstance(labels, Mapping):
        raise TypeError(
            f"`labels` are of type {type(labels).__name__}; expected a dictionary of tensors for the whole batch, as "
            "TextDetectionCollator of transformers_tcm.data makes it"
        )
    if "orig_size" in labels and len(labels["orig_size"]) != len(pixel_values):
        raise ValueError(f"got labels of {len(labels['orig_size'])} images for {len(pixel_values)} images")


def valid_sizes(pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None) -> torch.Tensor:
    """(B, 2) height and width of each image within the padded input."""
    if pixel_mask is None:
        sides = pixel_values.shape[-2:]
        columns = [torch.full(pixel_values.shape[:1], side, device=pixel_values.device) for side in sides]
        return torch.stack(columns, dim=1)
    mask = pixel_mask.bool()
    return torch.stack([mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)], dim=1)
