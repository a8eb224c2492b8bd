"""CLIP's ResNet and text tower in the names of OpenAI's release, which open_clip and the TCM release share.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (CLIP), 2021.
"""

import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ..models.tcm.modeling_tcm import TCMDetector
from .loading import read_state_dict
from .plan import Plan, Source, count, remap_state_dict, renamed_modules, shape_of

__all__ = [
    "constants",
    "image_encoder_plan",
    "image_encoder_settings",
    "image_processor",
    "load_clip",
    "plan",
    "settings",
    "text_tower_plan",
    "text_tower_settings",
    "unused",
]

# Scalars of the archive, and the temperature of CLIP's own contrastive training.
_UNUSED = ("input_resolution", "context_length", "vocab_size", "logit_scale")


def unused(state_dict: Mapping[str, torch.Tensor]) -> Collection[str]:
    """Names in the file that have no counterpart in a detector."""
    return _UNUSED


def settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that the tensors of a CLIP checkpoint tell.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    return {
        "vision_config": image_encoder_settings(state_dict, "visual."),
        "text_config": text_tower_settings(state_dict, ""),
        "clip_pretrained": True,
    }


def load_clip(model: TCMDetector, source: str | os.PathLike[str]) -> None:
    """Start image encoder and text tower of a new model from CLIP; prompts, decoders, head and recogniser stay new.

    It then counts as `clip_pretrained`: in training the text tower is frozen, and the image encoder learns at a tenth
    of the rate.

    Args:
        model: of the sizes of the file, in place.
        source: as for `transformers_tcm.conversion.convert_checkpoint`: OpenAI's or open_clip's file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, holds no CLIP ResNet, or one of other sizes; naming the tensors.
    """
    state_dict = read_state_dict(Path(source))
    if "visual.attnpool.c_proj.weight" not in state_dict:
        raise ValueError(f"{source} holds no CLIP ResNet, which RN50 is: {len(state_dict)} tensors of another model")
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    converted = remap_state_dict(plan(shapes, state_dict), state_dict, shapes, unused(state_dict))
    model.load_state_dict(converted, strict=False)
    model.config.clip_pretrained = True


def constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that no tensor tells; CLIP has none of a detector's."""
    return {}


def image_processor(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of the image processor that the weights were trained with."""
    return {"image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD}


def plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor]) -> Plan:
    """Where image encoder and text tower of a detector come from; prompts, decoders and head have no source."""
    return image_encoder_plan(ours, "visual.") | text_tower_plan(ours, "")


def image_encoder_settings(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Any]:
    """Settings of `TCMVisionConfig` from the tensors whose names begin with `prefix`."""
    positions, _ = shape_of(state_dict, f"{prefix}attnpool.positional_embedding", 2)
    half_width, num_channels, *_ = shape_of(state_dict, f"{prefix}conv1.weight", 4)
    blocks = f"{prefix}layer{{}}.{{{{}}}}.conv1.weight"
    return {
        "num_channels": num_channels,
        "width": 2 * half_width,
        "depths": [count(state_dict, blocks.format(layer)) for layer in range(1, 5)],
        "projection_dim": shape_of(state_dict, f"{prefix}attnpool.c_proj.weight", 2)[0],
        "positional_grid": round((positions - 1) ** 0.5),
    }


def text_tower_settings(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, Any]:
    """Settings of `CLIPTextConfig` from the tensors whose names begin with `prefix`."""
    vocab_size, hidden_size = shape_of(state_dict, f"{prefix}token_embedding.weight", 2)
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": shape_of(state_dict, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": count(state_dict, f"{prefix}transformer.resblocks.{{}}.mlp.c_fc.weight"),
        # Released detectors keep only the rows their prompt needs.
        "max_position_embeddings": shape_of(state_dict, f"{prefix}positional_embedding", 2)[0],
        "projection_dim": shape_of(state_dict, f"{prefix}text_projection", 2)[1],
    }


def image_encoder_plan(ours: Collection[str], prefix: str) -> Plan:
    """Where our `model.backbone.*` comes from."""
    backbone = "model.backbone"
    modules = {}
    for index in range(3):
        modules[f"{backbone}.stem.{index}.0"] = f"{prefix}conv{index + 1}"
        modules[f"{backbone}.stem.{index}.1"] = f"{prefix}bn{index + 1}"
    for stage, block in {tuple(name.split(".")[3:5]) for name in ours if name.startswith(f"{backbone}.stages.")}:
        here, there = f"{backbone}.stages.{stage}.{block}", f"{prefix}layer{int(stage) + 1}.{block}"
        for number, part in enumerate(("reduce", "conv", "expand"), start=1):
            modules[f"{here}.{part}.0"] = f"{there}.conv{number}"
            modules[f"{here}.{part}.1"] = f"{there}.bn{number}"
        for index in range(2):
            modules[f"{here}.shortcut.{index}"] = f"{there}.downsample.{index}"
    pool = f"{backbone}.attention_pool"
    for part in ("q_proj", "k_proj", "v_proj"):
        modules[f"{pool}.attention.{part}"] = f"{prefix}attnpool.{part}"
    modules[f"{pool}.attention.out_proj"] = f"{prefix}attnpool.c_proj"
    positions = {f"{pool}.positional_embedding": Source(f"{prefix}attnpool.positional_embedding")}
    return renamed_modules(modules, ours) | positions


def text_tower_plan(ours: Collection[str], prefix: str) -> Plan:
    """Where our text model and text projection come from; the learnable context has no source in CLIP."""
    encoder = "model.text_encoder"
    tower = f"{encoder}.text_model"
    modules = {
        f"{tower}.embeddings.token_embedding": f"{prefix}token_embedding",
        f"{tower}.final_layer_norm": f"{prefix}ln_final",
    }
    plan = {
        f"{tower}.embeddings.position_embedding.weight": Source(f"{prefix}positional_embedding"),
        # Kept as (in, out) there, as a linear layer's (out, in) here.
        f"{encoder}.text_projection.weight": Source(f"{prefix}text_projection", torch.t),
    }
    layers = {name.split(".")[5] for name in ours if name.startswith(f"{tower}.encoder.layers.")}
    for layer in layers:
        here, there = f"{tower}.encoder.layers.{layer}", f"{prefix}transformer.resblocks.{layer}"
        modules |= {
            f"{here}.self_attn.out_proj": f"{there}.attn.out_proj",
            f"{here}.layer_norm1": f"{there}.ln_1",
            f"{here}.layer_norm2": f"{there}.ln_2",
            f"{here}.mlp.fc1": f"{there}.mlp.c_fc",
            f"{here}.mlp.fc2": f"{there}.mlp.c_proj",
        }
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            for leaf in ("weight", "bias"):
                third = partial(_third, part=part)
                plan[f"{here}.self_attn.{name}.{leaf}"] = Source(f"{there}.attn.in_proj_{leaf}", third)
    return plan | renamed_modules(modules, ours)


def _third(tensor: torch.Tensor, part: int) -> torch.Tensor:
    """Queries, keys and values are stacked in one projection (3 D, …)."""
    return tensor.chunk(3)[part]
