"""Settings of a converted model: what its tensors tell, what a person tells, and CLIP's customs for the rest."""

import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTextConfig

from ..models.tcm.configuration_tcm import TCMConfig, TCMVisionConfig
from ..models.tcm.heads import head_class

__all__ = ["build_config", "expand", "read_settings"]

# Short names for settings of `TCMConfig` and its parts.
SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "attention_pool_heads": ("vision_config.num_attention_heads",),
    "context_tokens": ("num_context_tokens",),
    "decoder_heads": ("decoder_num_heads",),
    "decoder_layers": ("decoder_num_layers",),
    "decoder_width": ("decoder_hidden_size",),
    "embed_dim": ("vision_config.projection_dim", "text_config.projection_dim"),
    "hidden_act": ("text_config.hidden_act",),
    "neck_channels": ("head_config.neck_channels",),
    "positional_grid": ("vision_config.positional_grid",),
    "text_heads": ("text_config.num_attention_heads",),
    "text_layers": ("text_config.num_hidden_layers",),
    "text_width": ("text_config.hidden_size",),
    "vision_depths": ("vision_config.depths",),
    "vision_width": ("vision_config.width",),
}
PARTS = ("vision_config", "text_config", "head_config")
# These describe a run of a model, not the model.
NOT_OF_THE_MODEL = ("batch_size", "image_size")

# CLIP's attention heads are 64 channels wide, in the attention pool and in the text tower.
HEAD_SIZE = 64


def read_settings(config: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """Settings from a JSON file, or as they are.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not hold a JSON object.
    """
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    try:
        overrides = json.loads(Path(config).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not a JSON file: {error}") from error
    if not isinstance(overrides, dict):
        raise ValueError(f"{config} holds a JSON {type(overrides).__name__}; expected an object of settings")
    return overrides


def expand(overrides: Mapping[str, Any], head_type: str) -> dict[str, Any]:
    """Overrides in the form of `TCMConfig`, short names and `prompt` resolved.

    Args:
        overrides: what the caller sets.
        head_type: of the model, unless the overrides say so.

    Raises:
        ValueError: for names that are neither short names nor settings.
    """
    settings: dict[str, Any] = {}
    for name, value in overrides.items():
        if name == "prompt":
            settings["prompts"] = [value]
        elif name in SHORT_NAMES:
            for long_name in SHORT_NAMES[name]:
                part, _, inner = long_name.rpartition(".")
                (settings.setdefault(part, {}) if part else settings)[inner] = value
        elif name in PARTS and isinstance(value, Mapping):
            settings[name] = {**settings.get(name, {}), **value}
        elif name not in NOT_OF_THE_MODEL:
            settings[name] = value
    _check(settings, head_type)
    return settings


def build_config(inferred: Mapping[str, Any], overrides: Mapping[str, Any], constants: Mapping[str, Any]) -> TCMConfig:
    """The configuration of a converted model.

    Args:
        inferred: what the tensors tell.
        overrides: what the caller sets, from `expand`.
        constants: what stands where neither says anything.

    Raises:
        ValueError: if an overridden setting contradicts the tensors, or the settings make no model.
    """
    contradictions = _contradictions(inferred, overrides)
    if contradictions:
        raise ValueError(f"the settings contradict the checkpoint's tensors: {'; '.join(contradictions)}")
    try:
        return TCMConfig(**reduce(_merged, (_clip_conventions(inferred), constants, overrides, inferred)))
    except StrictDataclassError as error:
        raise ValueError(f"tensors and settings make no model: {error.__cause__ or error}") from error


def _clip_conventions(inferred: Mapping[str, Any]) -> dict[str, Any]:
    """CLIP's numbers of heads, which no tensor tells."""
    heads = {"num_attention_heads": max(inferred["vision_config"]["width"] * 32 // HEAD_SIZE, 1)}
    if "text_config" not in inferred:
        return {"vision_config": heads}
    text_heads = {"num_attention_heads": max(inferred["text_config"]["hidden_size"] // HEAD_SIZE, 1)}
    return {"vision_config": heads, "text_config": text_heads}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the second where they differ; one level of parts is merged as well."""
    return dict(first) | {
        name: {**first.get(name, {}), **value} if isinstance(value, Mapping) else value
        for name, value in second.items()
    }


def _contradictions(inferred: Mapping[str, Any], overrides: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name in inferred.keys() & overrides.keys():
        if isinstance(inferred[name], Mapping):
            found += _contradictions(inferred[name], overrides[name], f"{name}.")
        elif inferred[name] != overrides[name]:
            found.append(f"{prefix}{name} is {overrides[name]} by the settings and {inferred[name]} by the tensors")
    return sorted(found)


def _check(settings: Mapping[str, Any], head_type: str) -> None:
    head_config_class: Any = head_class(settings.get("head_type", head_type)).config_class
    unknown = sorted(settings.keys() - TCMConfig.__dataclass_fields__.keys())
    for name, config_class in zip(PARTS, (TCMVisionConfig, CLIPTextConfig, head_config_class), strict=True):
        part = settings.get(name, {})
        if not isinstance(part, Mapping):
            raise ValueError(f"`{name}` is {part!r}; expected an object of settings")
        unknown += [f"{name}.{inner}" for inner in part if inner not in config_class.__dataclass_fields__]
    if unknown:
        raise ValueError(
            f"unknown settings {', '.join(unknown)}; expected settings of TCMConfig, `prompt`, `image_processor`, or "
            f"one of {', '.join(SHORT_NAMES)}"
        )
