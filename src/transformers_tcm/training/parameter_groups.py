"""Layer-wise learning rates and weight decay as TCM is trained."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..models.tcm.modeling_tcm import TCMModel, TCMPreTrainedModel
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting

__all__ = ["freeze_all_but", "freeze_detector", "freeze_text_encoder", "parameter_groups"]


def freeze_text_encoder(model: TCMPreTrainedModel) -> None:
    """Keep CLIP's text tower as it is; the learnable context and the language prompt go on training."""
    encoder = _base_model(model).text_encoder
    if encoder is not None:
        encoder.text_model.requires_grad_(False)
        encoder.text_projection.requires_grad_(False)


def freeze_detector(model: TCMForTextSpotting) -> None:
    """Train nothing but the recogniser; the detector goes on finding exactly what it found."""
    model.model.requires_grad_(False)
    model.head.requires_grad_(False)


def freeze_all_but(model: nn.Module, parts: Sequence[str]) -> None:
    """Train nothing but some parts of a model.

    Args:
        model: any.
        parts: names of modules or parameters in it, such as `"recognizer.boundaries"`.

    Raises:
        ValueError: for a name that nothing has.
    """
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(name == part or name.startswith(f"{part}.") for name in names):
            raise ValueError(f"the model has no part {part!r} to train; its parts are {', '.join(_parts(names))}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(name == part or name.startswith(f"{part}.") for part in parts))


def _parts(names: Sequence[str]) -> list[str]:
    """The two outermost modules of parameters' names, each once."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))


def parameter_groups(
    model: TCMPreTrainedModel, learning_rate: float, weight_decay: float, image_encoder_scale: float | None = None
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer; frozen parameters are left out.

    Only the weights of linear and convolutional layers decay: norms, biases, embeddings and prompts do not. The image
    encoder learns at `image_encoder_scale` times the rate, what the head's `rate_scales` name at theirs. There are
    always four groups, and two more for each of these, also empty ones, so that the state of an optimizer can be loaded
    whatever the settings.

    Args:
        model: a TCM model.
        learning_rate: of all but the image encoder.
        weight_decay: of the weights that decay.
        image_encoder_scale: of the image encoder. Default: 0.1 where it comes from CLIP (`config.clip_pretrained`),
            else 1.
    """
    if image_encoder_scale is None:
        image_encoder_scale = 0.1 if model.config.clip_pretrained else 1.0
    in_encoder = {id(parameter) for parameter in _base_model(model).backbone.parameters()}
    decaying = {id(weight) for module in model.modules() for weight in _decaying_weights(module)}
    scales = getattr(getattr(model, "head", None), "rate_scales", {})
    places = {"image encoder": image_encoder_scale, "rest": 1.0, **scales}
    groups: dict[tuple[str, bool], dict[str, Any]] = {
        (place, decays): {
            "params": [],
            "lr": learning_rate * scale,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for place, scale in places.items()
        for decays in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module = name.rpartition(".")[0]
            slower = [end for end in scales if module.startswith("head.") and module.endswith(end)]
            place = "image encoder" if id(parameter) in in_encoder else (slower or ["rest"])[0]
            groups[place, id(parameter) in decaying]["params"].append(parameter)
    return list(groups.values())


def _decaying_weights(module: nn.Module) -> list[torch.Tensor]:
    """The weights of a module itself that decay."""
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
        return [module.weight]
    # Queries, keys and values of one size are projected by one matrix, which is no module.
    projections = module.in_proj_weight if isinstance(module, nn.MultiheadAttention) else None
    return [] if projections is None else [projections]


def _base_model(model: TCMPreTrainedModel) -> TCMModel:
    return model if isinstance(model, TCMModel) else model.model
