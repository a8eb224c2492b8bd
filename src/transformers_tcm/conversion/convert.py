"""From a checkpoint of CLIP, or a released detector, to a folder that `from_pretrained` loads."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from tqdm import tqdm

from ..models.tcm.backends import image_processor_class
from ..models.tcm.configuration_tcm import TCMConfig
from ..models.tcm.heads import head_class
from ..models.tcm.image_processing_common_tcm import TCMBaseImageProcessor
from ..models.tcm.modeling_tcm import TCMDetector, TCMForTextDetection
from ..models.tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting
from . import clip, oriented, tcm
from .loading import read_state_dict
from .plan import remap_state_dict
from .settings import build_config, expand, read_settings
from .spotters import DeepSoloOrigin, TESTROrigin

__all__ = ["convert_checkpoint", "convert_state_dict"]

Kind: TypeAlias = Literal["clip", "tcm", "oriented", "testr", "deepsolo"]

_ORIGINS: dict[Kind, Any] = {
    "clip": clip,
    "tcm": tcm,
    "oriented": oriented,
    "testr": TESTROrigin,
    "deepsolo": DeepSoloOrigin,
}
# Tensors that only one kind has.
_MARKS: dict[str, Kind] = {
    "visual.attnpool.c_proj.weight": "clip",
    "visual_prompt_generator.text_proj.1.weight": "tcm",
    "testr.transformer.level_embed": "testr",
    "detection_transformer.transformer.level_embed": "deepsolo",
}


def convert_checkpoint(
    source: str | Path,
    output_dir: str | Path,
    config: Mapping[str, Any] | str | Path | None = None,
    prompting: Literal["fasttcm", "tcm"] | None = None,
    kind: Literal["auto"] | Kind = "auto",
    seed: int = 0,
) -> TCMDetector:
    """Convert a checkpoint of CLIP, TCM, TESTR or DeepSolo and save model and image processor in a folder.

    Sizes come from the tensors. A detector made of CLIP is ready to be trained: its prompts, decoders and head are
    freshly initialised. Of TESTR and DeepSolo the head is taken, a warm start: their image encoder does not fit CLIP's,
    and all but the head is freshly initialised. Nothing stored in the file is executed.

    Args:
        source: OpenAI's `RN50.pt` (TorchScript archive or plain state dict), an open_clip ResNet's state dict, or a
            released TCM detector with a DBNet, PAN or FCENet head, or for DOTA, a released TESTR or DeepSolo;
            `.safetensors` files as well.
        output_dir: folder for `config.json`, `model.safetensors` and `preprocessor_config.json`.
        config: what the tensors do not tell, as a dict or a JSON file: `attention_pool_heads`, `text_heads`,
            `decoder_heads`, `prompt`, `temperature`, `hidden_act` ("gelu" for the weights that open_clip itself
            trained), `head_config` (such as the `num_heads` of TESTR and DeepSolo), any other setting of `TCMConfig`,
            and `image_processor`, a dict of the image processor's settings.
        prompting: where the language prompt comes from; by default what the tensors tell, or "fasttcm" for CLIP.
        kind: what the file is; "auto" looks at the names of its tensors.
        seed: of the freshly initialised parts.

    Returns:
        The converted model in evaluation mode.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file cannot be read, does not fit the model, or contradicts the settings; naming the tensors.
    """
    if Path(output_dir).is_file():
        raise ValueError(f"{output_dir} is a file; expected a folder to write the converted model to")
    overrides = read_settings(config) | ({} if prompting is None else {"prompting": prompting})
    processor_settings = overrides.pop("image_processor", {})
    with tqdm(total=3, desc="Reading", unit="step", leave=False, disable=None) as progress:
        state_dict = read_state_dict(source)
        known_kind = _kind_of(state_dict) if kind == "auto" else kind
        progress.update()
        progress.set_description("Building")
        model = convert_state_dict(state_dict, overrides, known_kind, seed)
        released = _ORIGINS[known_kind].image_processor(state_dict)
        processor = _image_processor(model.config, released, processor_settings)
        progress.update()
        progress.set_description("Writing")
        model.save_pretrained(output_dir)
        processor.save_pretrained(output_dir)
        progress.update()
    return model


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], overrides: Mapping[str, Any], kind: Kind, seed: int = 0
) -> TCMDetector:
    """The converted model alone; arguments and errors as `convert_checkpoint`, on the device of the default context."""
    origin = _ORIGINS[kind]
    inferred = origin.settings(state_dict)
    expanded = expand(overrides, inferred.get("head_type", TCMConfig.head_type))
    config = build_config(inferred, expanded, origin.constants(state_dict))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model_class(config)(config)
    model.eval()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if kind == "oriented":
        state_dict = oriented.with_joined_scales(state_dict)
    converted = remap_state_dict(origin.plan(shapes, state_dict), state_dict, shapes, origin.unused(state_dict))
    model.load_state_dict(converted, strict=False)
    if kind == "oriented":
        oriented.silence_language_prompt(model)
    return model


def _model_class(config: TCMConfig) -> type[TCMDetector]:
    if config.is_spotter:
        return TCMForTextSpotting
    return TCMForOrientedObjectDetection if head_class(config.head_type).task == "oriented" else TCMForTextDetection


def _image_processor(
    config: TCMConfig, released: Mapping[str, Any], overrides: Mapping[str, Any]
) -> TCMBaseImageProcessor:
    """The image processor of a model, with what the weights were released with unless told otherwise."""
    processor_class, head = image_processor_class(), head_class(config.head_type)
    known = {*processor_class.valid_kwargs.__annotations__, *head.decoding_class.__dataclass_fields__}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise ValueError(f"`image_processor` has unknown settings {', '.join(unknown)}")
    decoding = asdict(head.default_decoding(config.head_settings))
    fitting = processor_class(**{"head_type": config.head_type, **decoding, **released}).for_model(config).to_dict()
    fitting.pop("image_processor_type")
    return processor_class(**{**fitting, **overrides})


def _kind_of(state_dict: Mapping[str, torch.Tensor]) -> Kind:
    if oriented.head_of(state_dict) is not None:
        return "oriented"
    for mark, kind in _MARKS.items():
        if mark in state_dict:
            return kind
    some = ", ".join(sorted(state_dict)[:5])
    raise ValueError(
        "the checkpoint is neither a CLIP ResNet (CLIP's vision transformers have no place here) nor a TCM detector, "
        f"TESTR or DeepSolo; it holds {len(state_dict)} tensors such as {some}"
    )
