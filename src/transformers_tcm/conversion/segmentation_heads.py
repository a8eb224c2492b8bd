"""The heads of released detectors, in the names of their releases.

TCM and mmocr 0.x call the head `bbox_head`, mmocr 1.x `det_head`; otherwise the names are the same.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .plan import Plan, count, renamed_modules, shape_of

__all__ = [
    "DBNET_COLOURS",
    "RELEASED_HEADS",
    "ReleasedHead",
    "dbnet_plan",
    "dbnet_settings",
    "fcenet_constants",
    "fcenet_plan",
    "fcenet_settings",
    "head_type_of",
    "pan_constants",
    "pan_plan",
    "pan_settings",
]

OLD_HEAD, NEW_HEAD = "bbox_head", "det_head"

# Positions in our sequences and their names.
PAN_REDUCTION = {"0": "0", "1": "1"}
PAN_SEPARABLE = {"0": "depthwise_conv", "1": "pointwise_conv", "2": "bn"}
PAN_DIRECTIONS = {"top_down": "up_add", "bottom_up": "down_add"}

# mmocr 0.x, and TCM with it, compares distances with the threshold meant for scores.
PAN_DISTANCES = {OLD_HEAD: 0.85, NEW_HEAD: 3.0}


def dbnet_settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `DBNetConfig` that the tensors of a released DBNet tell.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    head = _head_of(state_dict, "binarize.0")
    return {
        "neck_channels": shape_of(state_dict, "neck.lateral_convs.0.conv.weight", 4)[0],
        "hidden_channels": shape_of(state_dict, f"{head}.binarize.0.weight", 4)[0],
    }


def dbnet_plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor], prefix: str = "head.") -> Plan:
    """Where every tensor of a DBNet head comes from; `prefix` stands before our names."""
    head, modules = _head_of(state_dict, "binarize.0"), {}
    for level in range(4):
        modules[f"{prefix}neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        modules[f"{prefix}neck.smooth.{level}"] = f"neck.smooth_convs.{level}.conv"
    for layer in range(7):
        modules[f"{prefix}probability.{layer}"] = f"{head}.binarize.{layer}"
        modules[f"{prefix}threshold.{layer}"] = f"{head}.threshold.{layer}"
    return renamed_modules(modules, ours)


def pan_settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `PANConfig` that the tensors of a released PAN tell.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    return {
        "channels": shape_of(state_dict, "neck.reduce_conv_c2.0.weight", 4)[0],
        "num_repeats": count(state_dict, "neck.fpems.{}.up_add1.depthwise_conv.weight"),
        "embedding_size": shape_of(state_dict, f"{_head_of(state_dict, 'out_conv')}.out_conv.weight", 4)[0] - 2,
    }


def pan_constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `PANConfig` that all releases of a naming share; `kernel_ratio` differs by data set."""
    return {"max_distance": PAN_DISTANCES[_head_of(state_dict, "out_conv")]}


def pan_plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor], prefix: str = "head.") -> Plan:
    """Where every tensor of a PAN head comes from; `prefix` stands before our names."""
    modules = {f"{prefix}output": f"{_head_of(state_dict, 'out_conv')}.out_conv"}
    for level in range(4):
        for mine, theirs in PAN_REDUCTION.items():
            modules[f"{prefix}neck.reduce.{level}.{mine}"] = f"neck.reduce_conv_c{level + 2}.{theirs}"
    for repeat in range(count(state_dict, "neck.fpems.{}.up_add1.depthwise_conv.weight")):
        for direction, name in PAN_DIRECTIONS.items():
            for step in range(3):
                here = f"{prefix}neck.enhance.{repeat}.{direction}.{step}"
                there = f"neck.fpems.{repeat}.{name}{step + 1}"
                modules |= {f"{here}.{mine}": f"{there}.{theirs}" for mine, theirs in PAN_SEPARABLE.items()}
    return renamed_modules(modules, ours)


def fcenet_settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `FCENetConfig` that the tensors of a released FCENet tell.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    rows = shape_of(state_dict, f"{_head_of(state_dict, 'out_conv_reg')}.out_conv_reg.weight", 4)[0]
    channels = shape_of(state_dict, "neck.lateral_convs.0.conv.weight", 4)[0]
    return {"channels": channels, "degree": (rows // 2 - 1) // 2}


def fcenet_constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `FCENetConfig` that TCM-FCENets share, and the ranges of the levels of those for ICDAR 2015."""
    return {
        "text_exponent": 1.2,
        "center_exponent": 1.0,
        "ranges": [[0.0, 0.4], [0.3, 0.7], [0.6, 1.0]],
    }


def fcenet_plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor], prefix: str = "head.") -> Plan:
    """Where every tensor of an FCENet head comes from; `prefix` stands before our names."""
    head = _head_of(state_dict, "out_conv_reg")
    modules = {f"{prefix}classifier": f"{head}.out_conv_cls", f"{prefix}contour": f"{head}.out_conv_reg"}
    for level in range(3):
        modules[f"{prefix}neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        modules[f"{prefix}neck.smooth.{level}"] = f"neck.fpn_convs.{level}.conv"
    return renamed_modules(modules, ours)


def _no_constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class ReleasedHead:
    """How a head is converted.

    Args:
        layer: of the head, by which it is told from others.
        settings: what tensors tell of its configuration; no setting may contradict them.
        plan: our names and the file's tensors to the plan of the head.
        constants: settings of its configuration that releases have in common and no tensor tells.
        image_processor: settings of the image processor that it was released with.
    """

    layer: str
    settings: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]]
    plan: Callable[[Collection[str], Mapping[str, torch.Tensor]], Plan]
    constants: Callable[[Mapping[str, torch.Tensor]], dict[str, Any]] = _no_constants
    image_processor: dict[str, Any] = field(default_factory=dict)


# DBNet's are given for colours of 0…255 there and 0…1 here.
DBNET_COLOURS = {
    "image_mean": [value / 255 for value in (122.67891434, 116.66876762, 104.00698793)],
    "image_std": [value / 255 for value in (58.395, 57.12, 57.375)],
}
IMAGENET_COLOURS = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}

RELEASED_HEADS = {
    "dbnet": ReleasedHead("binarize.0", dbnet_settings, dbnet_plan, image_processor=DBNET_COLOURS),
    "pan": ReleasedHead(
        "out_conv",
        pan_settings,
        pan_plan,
        pan_constants,
        {**IMAGENET_COLOURS, "threshold": 0.5, "box_threshold": 0.85, "min_size": 0},
    ),
    "fcenet": ReleasedHead(
        "out_conv_reg",
        fcenet_settings,
        fcenet_plan,
        fcenet_constants,
        {**IMAGENET_COLOURS, "threshold": 0.3, "box_threshold": 0.3, "min_size": 0},
    ),
}


def head_type_of(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Which head a released detector has.

    Raises:
        ValueError: if it is none of those that can be converted.
    """
    for head_type, head in RELEASED_HEADS.items():
        if f"{_head_of(state_dict, head.layer)}.{head.layer}.weight" in state_dict:
            return head_type
    layers = ", ".join(f"{OLD_HEAD}.{head.layer} ({name})" for name, head in RELEASED_HEADS.items())
    raise ValueError(f"the checkpoint's head is none that can be converted: it has none of the layers {layers}")


def _head_of(state_dict: Mapping[str, torch.Tensor], layer: str) -> str:
    """What the file calls the head."""
    return NEW_HEAD if f"{NEW_HEAD}.{layer}.weight" in state_dict else OLD_HEAD
