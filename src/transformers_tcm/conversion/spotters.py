"""Released TESTR and DeepSolo checkpoints (detectron2), in the names of their releases: the head as a warm start.

Their image encoder is a ResNet-50 with one convolution in its stem, which has no place in CLIP's form of ResNet: it is
left out, and everything but the head is new.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch.nn import functional
from transformers.utils import logging

from ..models.tcm.recognition.reading import PRINTABLE_ASCII
from .plan import Plan, Source, count, shape_of

__all__ = ["DeepSoloOrigin", "TESTROrigin"]

logger = logging.get_logger(__name__)

# Charsets of the releases by the number of classes, "unknown" and "blank or padding" among them.
CHARSETS = {97: PRINTABLE_ASCII, 38: "abcdefghijklmnopqrstuvwxyz0123456789"}
# All of them have so many queries; the number of DeepSolo's points shows in the product of both alone.
NUM_QUERIES = 100
ENCODER_LAYER = {
    "attention": "self_attn",
    "attention_norm": "norm1",
    "up": "linear1",
    "down": "linear2",
    "mlp_norm": "norm2",
}
DECODER_STREAM = {
    "within": "attn_intra",
    "between": "attn_inter",
    "across": "attn_cross",
    "within_norm": "norm_intra",
    "between_norm": "norm_inter",
    "across_norm": "norm_cross",
    "up": "linear1",
    "down": "linear2",
    "mlp_norm": "norm3",
}
# Heads that all decoder layers share are stored once for each of them, and some of the encoder's twice.
COPIES = {
    r"(ctrl_point_class|ctrl_point_coord|ctrl_point_text|boundary_offset)\.\d+": r"\1.0",
    r"transformer\.decoder\.ctrl_point_coord\.\d+": "ctrl_point_coord.0",
    r"bbox_class": "transformer.bbox_class_embed",
    r"bbox_coord": "transformer.bbox_embed",
    r"bezier_proposal_class": "transformer.bezier_class_embed",
    r"bezier_proposal_coord": "transformer.bezier_coord_embed",
}


class TESTROrigin:
    """A TESTR checkpoint."""

    head_type: ClassVar[str] = "testr"
    prefix: ClassVar[str] = "testr."
    # Our modules and theirs.
    modules: ClassVar[dict[str, str]] = {
        "proposals.projection": "transformer.enc_output",
        "proposals.norm": "transformer.enc_output_norm",
        "proposals.classifier": "transformer.bbox_class_embed",
        "proposals.coordinates": "transformer.bbox_embed",
        "query_position.projection": "transformer.pos_trans",
        "query_position.norm": "transformer.pos_trans_norm",
        "class_head": "ctrl_point_class.0",
        "point_head": "ctrl_point_coord.0",
        "text_head": "text_class",
    }
    parameters: ClassVar[dict[str, str]] = {
        "level_embedding": "transformer.level_embed",
        "point_embedding": "ctrl_point_embed.weight",
        "slot_embedding": "text_embed.weight",
    }
    computed: ClassVar[tuple[str, ...]] = ("text_pos_embed.inv_freq",)

    @classmethod
    def settings(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Settings of `TCMConfig` that the tensors tell; `num_heads` and the points of the attention they do not.

        Raises:
            ValueError: if a tensor that tells one is missing.
        """
        levels = shape_of(state_dict, f"{cls.prefix}transformer.level_embed", 2)
        transformer = f"{cls.prefix}transformer"
        num_classes = shape_of(state_dict, f"{cls.prefix}{cls.modules['text_head']}.weight", 2)[0]
        charset = {"charset": CHARSETS[num_classes]} if num_classes in CHARSETS else {}
        return {
            # C3 has eight times the width of the stem, there as here.
            "vision_config": {"width": shape_of(state_dict, f"{cls.prefix}input_proj.0.0.weight", 4)[1] // 8},
            "head_type": cls.head_type,
            "head_config": {
                "hidden_size": levels[1],
                "num_levels": levels[0],
                "num_encoder_layers": count(state_dict, f"{transformer}.encoder.layers.{{}}.linear1.weight"),
                "num_decoder_layers": count(state_dict, f"{transformer}.decoder.layers.{{}}.linear1.weight"),
                "mlp_size": shape_of(state_dict, f"{transformer}.encoder.layers.0.linear1.weight", 2)[0],
                **charset,
                **cls._settings_of_queries(state_dict),
            },
        }

    @classmethod
    def _settings_of_queries(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        num_points = shape_of(state_dict, f"{cls.prefix}ctrl_point_embed.weight", 2)[0]
        max_length = shape_of(state_dict, f"{cls.prefix}text_embed.weight", 2)[0]
        if num_points == 8:
            return {"curve": "bezier", "text_weight": 2.0, "max_length": max_length}
        return {"curve": "polygon", "max_length": max_length}

    @classmethod
    def constants(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Settings of `TCMConfig` that no tensor tells: those of the head are its defaults."""
        return {}

    @classmethod
    def image_processor(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Settings of the image processor: those of CLIP, whose image encoder the model is to get."""
        return {}

    @classmethod
    def plan(cls, ours: Mapping[str, torch.Size], state_dict: Mapping[str, torch.Tensor]) -> Plan:
        """Where every tensor of the head comes from; its language model, if there is one, is new.

        Args:
            ours: all names of our state dict, and the shapes.
            state_dict: the file's tensors.
        """
        plan: Plan = {}
        for name, shape in ours.items():
            if name.startswith("head.") and not name.startswith("head.language_model."):
                plan[name] = Source(cls.prefix + cls._their_name(name.removeprefix("head.")), _Fitted(shape))
        return plan

    @classmethod
    def _their_name(cls, name: str) -> str:
        """The release's name of one of our head's tensors, without prefix."""
        if name in cls.parameters:
            return cls.parameters[name]
        for ours, theirs in cls.modules.items():
            if name.startswith(f"{ours}."):
                return theirs + name.removeprefix(ours)
        part, number, rest = name.split(".", 2)
        if part == "levels":
            return f"input_proj.{number}." + re.sub("^norm", "1", re.sub("^conv", "0", rest))
        if part == "encoder":
            module, leaf = rest.split(".", 1)
            return f"transformer.encoder.layers.{number}.{ENCODER_LAYER[module]}.{leaf}"
        stream, module, leaf = rest.split(".", 2)
        twin = "_text" if stream == "text" else ""
        return f"transformer.decoder.layers.{number}.{DECODER_STREAM[module]}{twin}.{leaf}"

    @classmethod
    def unused(cls, state_dict: Mapping[str, torch.Tensor]) -> Collection[str]:
        """The tensors of the image encoder, copies, and what is computed; the first is reported.

        Raises:
            ValueError: naming copies that differ from what they should be copies of.
        """
        encoder = [name for name in state_dict if name.startswith(f"{cls.prefix}backbone.0.")]
        logger.warning(
            "a warm start: the head is that of the checkpoint, whose image encoder (%d tensors of a ResNet-50) does "
            "not fit CLIP's and is left out; all the rest is new and has to be trained",
            len(encoder),
        )
        copies = {name: original for name in state_dict if (original := cls._original(name)) not in (None, name)}
        changed = [
            name
            for name, original in copies.items()
            if original in state_dict and not _equal(state_dict[name], state_dict[original])
        ]
        if changed:
            raise ValueError(f"the decoder layers of the checkpoint have heads of their own: {', '.join(changed)}")
        return {*encoder, *copies, *(cls.prefix + name for name in cls.computed)}

    @classmethod
    def _original(cls, name: str) -> str | None:
        """What a tensor is a copy of, maybe itself; `None` for one that is never copied."""
        short = name.removeprefix(cls.prefix)
        for pattern, original in COPIES.items():
            found = re.match(rf"{pattern}(?=\.)", short)
            if found:
                return cls.prefix + found.expand(original) + short[found.end() :]
        return None


class DeepSoloOrigin(TESTROrigin):
    """A DeepSolo checkpoint."""

    head_type = "deepsolo"
    prefix = "detection_transformer."
    modules: ClassVar[dict[str, str]] = {
        "proposals.projection": "transformer.enc_output",
        "proposals.norm": "transformer.enc_output_norm",
        "proposals.classifier": "transformer.bezier_class_embed",
        "proposals.coordinates": "transformer.bezier_coord_embed",
        "query_position": "transformer.decoder.ref_point_head",
        "class_head": "ctrl_point_class.0",
        "point_head": "ctrl_point_coord.0",
        "boundary_head": "boundary_offset.0",
        "text_head": "ctrl_point_text.0",
    }
    parameters: ClassVar[dict[str, str]] = {
        "level_embedding": "transformer.level_embed",
        "point_embedding": "point_embed.weight",
    }
    computed = ()

    @classmethod
    def _settings_of_queries(cls, state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        rows = shape_of(state_dict, f"{cls.prefix}point_embed.weight", 2)[0]
        points = {} if rows % NUM_QUERIES else {"num_queries": NUM_QUERIES, "num_points": rows // NUM_QUERIES}
        return {"boundary": f"{cls.prefix}boundary_offset.0.layers.0.weight" in state_dict, **points}


class _Fitted:
    """Brings a tensor of the release into the shape of ours, as far as the same numbers allow.

    Queries and their points are rows of one matrix there, and there is no score map in C5, whose channels are the last
    and start at zero.
    """

    def __init__(self, shape: torch.Size):
        self.shape = shape

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach()
        if len(self.shape) == 4 and tensor.ndim == 4:
            return functional.pad(tensor, (0, 0, 0, 0, 0, max(self.shape[1] - tensor.shape[1], 0)))
        same = tensor.numel() == math.prod(self.shape) and tensor.shape[-1:] == self.shape[-1:]
        return tensor.reshape(self.shape) if same else tensor


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same; those of the device "meta" hold nothing."""
    return one.shape == other.shape and (one.is_meta or torch.equal(one, other))
