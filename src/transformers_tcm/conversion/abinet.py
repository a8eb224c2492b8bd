"""Recognisers of released ABINets and ABINet++s, in the names of their releases.

ABINet's classes are the end and then 26 letters and 10 digits; ABINet++'s are printable ASCII, unknown and the end,
which is the order of this package. What stands before the attention in ABINet, a ResNet of its own, has no place here.
Of mmocr's ABINet nothing is documented but that its names begin with `decoder.`: neither the names themselves, nor the
order of its classes.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import torch

from ..models.tcm.recognition.abinet import ABINetRecognizer
from ..models.tcm.recognition.reading import PRINTABLE_ASCII
from .plan import Plan, Source, count, remap_state_dict, renamed_modules, shape_of

__all__ = ["abinet_plan", "abinet_settings", "load_abinet"]

ABINET_CHARSET = "abcdefghijklmnopqrstuvwxyz1234567890"
PARTS = ("vision", "language", "fusion")
# Of all names of a file in the releases' naming, each begins with one of these.
RELEASED_PARTS = ("vision.", "language.", "alignment.")
MMOCR_PREFIX = "decoder."

# ABINet has no class for unknown characters: one with this bias is never read.
NEVER = -1e4

LAYER = {"expand": "linear1", "reduce": "linear2", "attention.output": "{attention}.out_proj"}
PACKED = ("query", "key", "value")
# Positions of convolution and norm in our sequences and in theirs, where an up-sampling may stand before them.
CONV_NORM = {"0": 0, "1": 1}


def abinet_settings(state_dict: Mapping[str, torch.Tensor], charset: str | None = None) -> dict[str, Any]:
    """Settings of `ABINetConfig` that the tensors of a released recogniser tell; attention heads are 8 in all.

    Args:
        state_dict: the file's tensors.
        charset: the characters in the order of their classes; by default those of the release with as many classes.

    Raises:
        ValueError: if a tensor that tells one is missing, nothing tells the charset, or the names are mmocr's.
    """
    _check_names(state_dict)
    vision, is_spotter = _vision(state_dict), _is_spotter(state_dict)
    num_classes, language_size = shape_of(state_dict, "language.cls.weight", 2)
    num_characters = num_classes - (2 if is_spotter else 1)
    charset = charset or (PRINTABLE_ASCII if is_spotter else ABINET_CHARSET)
    if len(charset) != num_characters:
        raise ValueError(f"the checkpoint has classes for {num_characters} characters; name them as the `charset`")
    hidden_size = shape_of(state_dict, f"{vision}.cls.weight", 2)[1]
    layers = count(state_dict, f"{vision}.attention.aggregator.transformer.layers.{{}}.linear1.weight")
    settings: dict[str, Any] = {
        "decoder": "abinet",
        "charset": charset,
        "hidden_size": hidden_size,
        "max_length": shape_of(state_dict, "language.pos_encoder.pe", 3)[0],
        "attention_channels": shape_of(state_dict, f"{vision}.attention.k_encoder.0.0.weight", 4)[0],
        "attention_layers": layers,
        "attention_iterations": 3 if is_spotter else 0,
        "language_hidden_size": language_size,
        "language_layers": count(state_dict, "language.model.layers.{}.linear1.weight"),
        "language_mlp_size": shape_of(state_dict, "language.model.layers.0.linear1.weight", 2)[0],
    }
    if layers:
        name = f"{vision}.attention.aggregator.transformer.layers.0.linear1.weight"
        settings["attention_mlp_size"] = shape_of(state_dict, name, 2)[0]
    if is_spotter:
        channels = [hidden_size] * count(state_dict, f"{vision}.modeling.layers.{{}}.0.weight")
        settings |= {"encoder": "map", "channels": channels, "num_blocks": [0] * len(channels)}
    return settings


def abinet_plan(
    ours: Collection[str], state_dict: Mapping[str, torch.Tensor], parts: Collection[str] = PARTS, prefix: str = ""
) -> Plan:
    """Where the tensors of the parts of a recogniser come from.

    Args:
        ours: all names of our state dict.
        state_dict: the file's tensors.
        parts: `"vision"`, `"language"` and `"fusion"`, or some of them.
        prefix: stands before our names, which start with `encoder` and `decoder`.
    """
    decoder = f"{prefix}decoder."
    plan: Plan = {}
    if "vision" in parts:
        plan |= _vision_plan(ours, state_dict, prefix)
    if "language" in parts:
        plan |= renamed_modules({f"{decoder}language.classifier": "language.cls"}, ours)
        plan[f"{decoder}language.embedding.weight"] = Source("language.proj.weight", lambda weight: weight.detach().T)
        for layer in range(count(state_dict, "language.model.layers.{}.linear1.weight")):
            there = f"language.model.layers.{layer}"
            plan |= _layer_plan(ours, f"{decoder}language.layers.{layer}", there, "multihead_attn", ("norm2", "norm3"))
    if "fusion" in parts:
        names = {"gate": "w_att", "classifier": "cls", "projection": "proj"}
        plan |= renamed_modules(
            {f"{decoder}fusion.{mine}": f"alignment.{theirs}" for mine, theirs in names.items()}, ours
        )
    return plan if _is_spotter(state_dict) else {name: _in_our_order(name, source) for name, source in plan.items()}


def load_abinet(
    recognizer: ABINetRecognizer, state_dict: Mapping[str, torch.Tensor], parts: Collection[str] = PARTS
) -> None:
    """Take parts of a released recogniser over, in place.

    Args:
        recognizer: made by the settings of `abinet_settings`, at least of those parts.
        state_dict: the file's tensors.
        parts: `"vision"`, which for ABINet is the attention and for ABINet++ the convolutions before it too;
            `"language"`, the language model; and `"fusion"`.

    Raises:
        ValueError: for unknown parts; naming tensors that are missing or of another shape; for the names of mmocr.
    """
    _check_names(state_dict)
    if not parts or not set(parts) <= set(PARTS):
        raise ValueError(f"`parts` are {', '.join(map(repr, parts)) or 'none'}; choose among {', '.join(PARTS)}")
    own = recognizer.state_dict()
    plan = abinet_plan(own.keys(), state_dict, parts)
    shapes = {name: tensor.shape for name, tensor in own.items()}
    recognizer.load_state_dict(remap_state_dict(plan, state_dict, shapes, unused=state_dict.keys()), strict=False)


def _check_names(state_dict: Mapping[str, torch.Tensor]) -> None:
    foreign = [name for name in state_dict if name.startswith(MMOCR_PREFIX)]
    if foreign and not any(name.startswith(RELEASED_PARTS) for name in state_dict):
        raise ValueError(
            f"the checkpoint has tensors such as {foreign[0]}, which looks like ABINet in mmocr's names; they are not "
            "known to this package. Rename the tensors as docs/abinet.md tells, to names that begin with "
            f"{', '.join(RELEASED_PARTS)}"
        )


def _is_spotter(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """ABINet++."""
    return "vision.roi_heads.cls.weight" in state_dict


def _vision(state_dict: Mapping[str, torch.Tensor]) -> str:
    return "vision.roi_heads" if _is_spotter(state_dict) else "vision"


def _vision_plan(ours: Collection[str], state_dict: Mapping[str, torch.Tensor], prefix: str) -> Plan:
    vision = _vision(state_dict)
    mine, theirs = f"{prefix}decoder.attention", f"{vision}.attention"
    modules = {f"{prefix}decoder.classifier": f"{vision}.cls", f"{mine}.query": f"{theirs}.project"}
    # An up-sampling is the first of ABINet's way up.
    skipped = 0 if _is_spotter(state_dict) else 1
    series = {f"{mine}.keys.down.{level}": (f"{theirs}.k_encoder.{level}", 0) for level in range(4)}
    series |= {f"{mine}.keys.up.{level}": (f"{theirs}.k_decoder.{level}", skipped) for level in range(3)}
    series[f"{mine}.keys.output"] = (f"{theirs}.k_decoder.3", skipped)
    if _is_spotter(state_dict):
        depth = count(state_dict, f"{vision}.modeling.layers.{{}}.0.weight")
        series |= {f"{prefix}encoder.{level}": (f"{vision}.modeling.layers.{level}", 0) for level in range(depth)}
    for here, (there, offset) in series.items():
        modules |= {f"{here}.{place}": f"{there}.{number + offset}" for place, number in CONV_NORM.items()}
    plan = renamed_modules(modules, ours)
    for layer in range(count(state_dict, f"{theirs}.aggregator.transformer.layers.{{}}.linear1.weight")):
        here, there = f"{mine}.keys.transformer.layers.{layer}", f"{theirs}.aggregator.transformer.layers.{layer}"
        plan |= _layer_plan(ours, here, there, "self_attn", ("norm1", "norm2"))
    return plan


def _layer_plan(ours: Collection[str], here: str, there: str, attention: str, norms: tuple[str, str]) -> Plan:
    """A transformer layer, whose query, key and value weights are packed into one tensor."""
    names = LAYER | dict(zip(("attention_norm", "mlp_norm"), norms, strict=True))
    modules = {f"{here}.{mine}": f"{there}.{theirs.format(attention=attention)}" for mine, theirs in names.items()}
    plan = renamed_modules(modules, ours)
    for place, name in enumerate(PACKED):
        for leaf in ("weight", "bias"):
            source = Source(f"{there}.{attention}.in_proj_{leaf}", _third(place))
            plan[f"{here}.attention.{name}.{leaf}"] = source
    return plan


def _third(place: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda packed: packed.detach().chunk(3)[place]


def _in_our_order(name: str, source: Source) -> Source:
    """The end last in place of first, and a class for unknown characters before it."""
    if name.endswith("embedding.weight"):
        return Source(source.name, lambda weight: _reordered(weight.T, 0.0))
    if "classifier." in name:
        return Source(source.name, partial(_reordered, unknown=NEVER if name.endswith("bias") else 0.0))
    return source


def _reordered(rows: torch.Tensor, unknown: float) -> torch.Tensor:
    """Rows (C, …) of the end and C - 1 characters to those of the characters, unknown and the end (C + 1, …)."""
    end, characters = rows.detach()[:1], rows.detach()[1:]
    return torch.cat([characters, torch.full_like(end, unknown), end])
