"""A released TCM checkpoint for DOTA, with the head of rotated FCOS, ATSS or RetinaNet.

The heads and the pyramid have the names of MMRotate 1.x and MMDetection 3.x, the image encoder begins with
`backbone.visual`; for the rest, of which no list is published, the names are those of the released TCM-DBNet. A tensor
by another name is an error that names it.

The release prompts every class by learned tokens alone, without a language prompt: the generator's last layer is zero
here. The score maps are concatenated as logits, cosine / temperature, which the heads of this package expect, and the
positional embedding is stored for the fixed input of 1024 pixels, a grid of 32 x 32.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ..dota import DOTA_V1_CLASSES
from ..models.tcm.modeling_tcm import TCMDetector
from . import tcm
from .plan import Plan, Source, count, renamed_modules, shape_of
from .segmentation_heads import DBNET_COLOURS

__all__ = [
    "constants",
    "head_of",
    "image_processor",
    "plan",
    "settings",
    "silence_language_prompt",
    "unused",
    "with_joined_scales",
]

# Built by the release, but never asked.
_UNUSED = tuple(f"prompt_generator.prompt_proj.{index}.{leaf}" for index in (0, 1, 3, 4) for leaf in ("weight", "bias"))

# What the release calls the classifier of each head.
CLASSIFIERS = {"rotated_fcos": "conv_cls", "rotated_atss": "atss_cls", "rotated_retinanet": "retina_cls"}
PREDICTORS = {"classifier": "cls", "box": "reg", "angle": "angle", "centerness": "centerness"}
TOWERS = {"class_tower": "cls_convs", "box_tower": "reg_convs"}
ANCHORS = 9  # of RetinaNet at each location
SCALES = "bbox_head.scales"
IMAGE_ENCODER = "backbone.visual."


def unused(state_dict: Mapping[str, torch.Tensor]) -> Collection[str]:
    """Names in the file that have no counterpart in a detector: the language prompt, which is never asked."""
    return _UNUSED


def head_of(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """The `head_type` of a released detector of oriented objects; `None` for any other checkpoint."""
    found = [head for head, name in CLASSIFIERS.items() if f"bbox_head.{name}.weight" in state_dict]
    return found[0] if found else None


def settings(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that the tensors tell; the classes are those of DOTA-v1.0 if there are 15.

    Raises:
        ValueError: if a tensor that tells one is missing.
    """
    head = head_of(state_dict)
    assert head is not None  # otherwise the checkpoint is of another kind
    outputs, channels, *_ = shape_of(state_dict, f"bbox_head.{CLASSIFIERS[head]}.weight", 4)
    num_classes = outputs // (ANCHORS if head == "rotated_retinanet" else 1)
    names = DOTA_V1_CLASSES if num_classes == len(DOTA_V1_CLASSES) else [f"class-{i}" for i in range(num_classes)]
    return {
        **tcm.prompting_settings(state_dict, IMAGE_ENCODER),
        "prompting": "tcm",
        "id2label": dict(enumerate(names)),
        "head_type": head,
        "head_config": {
            "channels": channels,
            "num_convs": count(state_dict, "bbox_head.cls_convs.{}.conv.weight"),
        },
    }


def constants(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of `TCMConfig` that no tensor tells; there are none."""
    return {}


def image_processor(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Settings of the image processor that the detector was released with; its colours are those of TCM-DBNet."""
    return {**DBNET_COLOURS, "size": {"longest_edge": 1024}}


def plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor]) -> Plan:
    """Where every tensor of a detector comes from, the language prompt left out; see `with_joined_scales`."""
    head = head_of(state_dict)
    assert head is not None
    prefix = CLASSIFIERS[head].removesuffix("cls")
    modules = {
        f"head.{mine}": f"bbox_head.{prefix}{theirs}"
        for mine, theirs in PREDICTORS.items()
        if f"bbox_head.{prefix}{theirs}.weight" in state_dict
    }
    # Convolution, norm and activation there are layers of one sequence here, without a norm in RetinaNet.
    stride = 2 if head == "rotated_retinanet" else 3
    for mine, theirs in TOWERS.items():
        for layer in range(count(state_dict, f"bbox_head.{theirs}.{{}}.conv.weight")):
            modules[f"head.{mine}.{stride * layer}"] = f"bbox_head.{theirs}.{layer}.conv"
            modules[f"head.{mine}.{stride * layer + 1}"] = f"bbox_head.{theirs}.{layer}.gn"
    further = "coarser" if head == "rotated_fcos" else "further"
    for level in range(3):
        modules[f"head.neck.lateral.{level}"] = f"neck.lateral_convs.{level}.conv"
        modules[f"head.neck.smooth.{level}"] = f"neck.fpn_convs.{level}.conv"
    for level in range(2):
        modules[f"head.neck.{further}.{level}"] = f"neck.fpn_convs.{level + 3}.conv"
    prompting = {
        name: source
        for name, source in tcm.prompting_plan(ours, IMAGE_ENCODER).items()
        if not name.startswith("model.language_prompt_generator.")
    }
    scales = {"head.box_scales": Source(SCALES), "head.angle_scale": Source("bbox_head.scale_angle.scale", _flat)}
    return {**prompting, **renamed_modules(modules, ours), **{name: scales[name] for name in scales if name in ours}}


def with_joined_scales(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors by name, with the factors of the levels `scales.L.scale`, each of one number, as one tensor (L,)."""
    pattern = re.compile(rf"{re.escape(SCALES)}\.(\d+)\.scale")
    levels = {int(match[1]): tensor for name, tensor in state_dict.items() if (match := pattern.fullmatch(name))}
    others = {name: tensor for name, tensor in state_dict.items() if not pattern.fullmatch(name)}
    if not levels:
        return others
    return {**others, SCALES: torch.stack([levels[level].reshape(()) for level in sorted(levels)])}


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1)


@torch.no_grad()
def silence_language_prompt(model: TCMDetector) -> None:
    """Make the language prompt zero, as the release has none."""
    generator = model.model.language_prompt_generator
    assert generator is not None  # a converted model is not fused
    last = generator[-1]
    for parameter in last.parameters():
        parameter.zero_()
