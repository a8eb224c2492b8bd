"""A released TCM-DBNet checkpoint, in the names of its release.

Its own names (`context_decoder` for the text refiner, `vis_gamma`, …) appear here and nowhere else.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from . import clip
from .plan import Plan, Source, count, renamed_modules, shape_of

__all__ = ["IMAGE_PROCESSOR", "plan", "settings", "unused"]

# Constants it was trained with, given for colours of 0…255 there and 0…1 here.
IMAGE_PROCESSOR = {
    "image_mean": [value / 255 for value in (122.67891434, 116.66876762, 104.00698793)],
    "image_std": [value / 255 for value in (58.395, 57.12, 57.375)],
}

# Our decoder modules and theirs; the numbers are positions in sequences.
DECODER_PARTS = {"query_proj": ("text_proj", 2), "memory_proj": ("memory_proj", 3), "output_proj": ("out_proj", 2)}
DECODER_LAYER = {
    "self_attention_norm": "norm1",
    "cross_attention_norm": "norm2",
    "mlp_norm": "norm3",
    "mlp.0": "mlp.0",
    "mlp.3": "mlp.3",
}


def unused(state_dict: Mapping[str, torch.Tensor]) -> Collection[str]:
    """Names in the file that have no counterpart in a detector: none."""
    return ()


def settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that the tensors of a released detector tell.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    decoder = "visual_prompt_generator"
    return {
        "vision_config": clip.image_encoder_settings(state_dict, "backbone."),
        "text_config": clip.text_tower_settings(state_dict, "text_encoder."),
        "clip_pretrained": True,
        "prompting": "fasttcm" if "meta_query" in state_dict else "tcm",
        "num_context_tokens": shape_of(state_dict, "contexts", 3)[1],
        "decoder_hidden_size": shape_of(state_dict, f"{decoder}.text_proj.1.weight", 2)[0],
        "decoder_num_layers": count(state_dict, f"{decoder}.decoder.{{}}.norm1.weight"),
        "learnable_logit_scale": "logit_scale" in state_dict,
        "text_refiner": "gamma" in state_dict,
        "head_type": "dbnet",
        "head_config": {
            "neck_channels": shape_of(state_dict, "neck.lateral_convs.0.conv.weight", 4)[0],
            "hidden_channels": shape_of(state_dict, "bbox_head.binarize.0.weight", 4)[0],
        },
    }


def plan(ours: Collection[str]) -> Plan:
    """Where every tensor of a detector comes from."""
    free = {
        "model.visual_scale": "vis_gamma",
        "model.text_scale": "gamma",
        "model.logit_scale": "logit_scale",
        "model.meta_query": "meta_query",
        "model.text_encoder.context": "contexts",
    }
    modules = {
        f"model.language_prompt_generator.{index}": f"prompt_generator.prompt_proj.{index}" for index in range(5)
    }
    modules |= _decoder_modules(ours, "model.visual_prompt_generator", "visual_prompt_generator")
    modules |= _decoder_modules(ours, "model.text_refiner", "context_decoder")
    for level in range(4):
        modules[f"head.neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        modules[f"head.neck.smooth.{level}"] = f"neck.smooth_convs.{level}.conv"
    for layer in range(7):
        modules[f"head.probability.{layer}"] = f"bbox_head.binarize.{layer}"
        modules[f"head.threshold.{layer}"] = f"bbox_head.threshold.{layer}"
    return {
        **clip.image_encoder_plan(ours, "backbone."),
        **clip.text_tower_plan(ours, "text_encoder."),
        **renamed_modules(modules, ours),
        **{name: Source(theirs) for name, theirs in free.items() if name in ours},
    }


def _decoder_modules(ours: Collection[str], here: str, there: str) -> dict[str, str]:
    modules = {
        f"{here}.{part}.{index}": f"{there}.{theirs}.{index}"
        for part, (theirs, length) in DECODER_PARTS.items()
        for index in range(length)
    }
    for layer in {name.split(".")[3] for name in ours if name.startswith(f"{here}.layers.")}:
        mine, other = f"{here}.layers.{layer}", f"{there}.decoder.{layer}"
        modules |= {f"{mine}.{part}": f"{other}.{theirs}" for part, theirs in DECODER_LAYER.items()}
        for attention, name in (("self_attention", "self_attn"), ("cross_attention", "cross_attn")):
            modules[f"{mine}.{attention}.out_proj"] = f"{other}.{name}.proj"
            for projection in ("q_proj", "k_proj", "v_proj"):
                modules[f"{mine}.{attention}.{projection}"] = f"{other}.{name}.{projection}"
    return modules
