"""A released TCM detector, with any of the `RELEASED_HEADS`, in the names of its release.

Its own names (`context_decoder` for the text refiner, `vis_gamma`, …) appear here and nowhere else.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from . import clip
from .plan import Plan, Source, count, renamed_modules, shape_of
from .segmentation_heads import RELEASED_HEADS, head_type_of

__all__ = ["constants", "image_processor", "plan", "prompting_plan", "prompting_settings", "settings", "unused"]

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
    head_type = head_type_of(state_dict)
    return {
        **prompting_settings(state_dict, "backbone."),
        "prompting": "fasttcm" if "meta_query" in state_dict else "tcm",
        "head_type": head_type,
        "head_config": RELEASED_HEADS[head_type].settings(state_dict),
    }


def prompting_settings(state_dict: Mapping[str, torch.Tensor], image_encoder: str) -> dict[str, Any]:
    """Settings of everything but the head; the names of the image encoder's tensors begin with `image_encoder`.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    decoder = "visual_prompt_generator"
    return {
        "vision_config": clip.image_encoder_settings(state_dict, image_encoder),
        "text_config": clip.text_tower_settings(state_dict, "text_encoder."),
        "clip_pretrained": True,
        "num_context_tokens": shape_of(state_dict, "contexts", 3)[1],
        "decoder_hidden_size": shape_of(state_dict, f"{decoder}.text_proj.1.weight", 2)[0],
        "decoder_num_layers": count(state_dict, f"{decoder}.decoder.{{}}.norm1.weight"),
        "learnable_logit_scale": "logit_scale" in state_dict,
        "text_refiner": "gamma" in state_dict,
    }


def constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that no tensor tells and releases have in common."""
    return {"head_config": RELEASED_HEADS[head_type_of(state_dict)].constants(state_dict)}


def image_processor(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of the image processor that the detector was released with."""
    return RELEASED_HEADS[head_type_of(state_dict)].image_processor


def plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor]) -> Plan:
    """Where every tensor of a detector comes from."""
    head = RELEASED_HEADS[head_type_of(state_dict)]
    return {**prompting_plan(ours, "backbone."), **head.plan(ours, state_dict)}


def prompting_plan(ours: Collection[str], image_encoder: str) -> Plan:
    """Where everything but the head comes from; the image encoder's names begin with `image_encoder`."""
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
    return {
        **clip.image_encoder_plan(ours, image_encoder),
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
