"""The heads PAN and FCENet of released detectors, in the names of their releases.

TCM and mmocr 0.x call the head `bbox_head`, mmocr 1.x `det_head`; otherwise the names are the same.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from .plan import Plan, count, renamed_modules, shape_of

__all__ = ["fcenet_plan", "fcenet_settings", "pan_plan", "pan_settings"]

OLD_HEAD, NEW_HEAD = "bbox_head", "det_head"

# Positions in our sequences and their names.
PAN_REDUCTION = {"0": "0", "1": "1"}
PAN_SEPARABLE = {"0": "depthwise_conv", "1": "pointwise_conv", "2": "bn"}
PAN_DIRECTIONS = {"top_down": "up_add", "bottom_up": "down_add"}

# mmocr 0.x, and TCM with it, compares distances with the threshold meant for scores.
PAN_DISTANCES = {OLD_HEAD: 0.85, NEW_HEAD: 3.0}
# Exponents of text and centre probability, and the levels, of all released TCM-FCENets.
FCENET_CONSTANTS = {
    "text_exponent": 1.2,
    "center_exponent": 1.0,
    "ranges": [[0.0, 0.25], [0.2, 0.65], [0.55, 1.0]],
}


def pan_settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `PANConfig` that the tensors of a released PAN tell; `kernel_ratio` differs by data set.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    head = _head_of(state_dict, "out_conv")
    return {
        "channels": shape_of(state_dict, "neck.reduce_conv_c2.0.weight", 4)[0],
        "num_repeats": count(state_dict, "neck.fpems.{}.up_add1.depthwise_conv.weight"),
        "embedding_size": shape_of(state_dict, f"{head}.out_conv.weight", 4)[0] - 2,
        "max_distance": PAN_DISTANCES[head],
    }


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
    """Settings of `FCENetConfig` that the tensors of a released FCENet tell, and the constants of TCM's.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    rows = shape_of(state_dict, f"{_head_of(state_dict, 'out_conv_reg')}.out_conv_reg.weight", 4)[0]
    channels = shape_of(state_dict, "neck.lateral_convs.0.conv.weight", 4)[0]
    return {"channels": channels, "degree": (rows // 2 - 1) // 2, **FCENET_CONSTANTS}


def fcenet_plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor], prefix: str = "head.") -> Plan:
    """Where every tensor of an FCENet head comes from; `prefix` stands before our names."""
    head = _head_of(state_dict, "out_conv_reg")
    modules = {f"{prefix}classifier": f"{head}.out_conv_cls", f"{prefix}contour": f"{head}.out_conv_reg"}
    for level in range(3):
        modules[f"{prefix}neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        modules[f"{prefix}neck.smooth.{level}"] = f"neck.fpn_convs.{level}.conv"
    return renamed_modules(modules, ours)


def _head_of(state_dict: Mapping[str, torch.Tensor], layer: str) -> str:
    """What the file calls the head."""
    return NEW_HEAD if f"{NEW_HEAD}.{layer}.weight" in state_dict else OLD_HEAD
