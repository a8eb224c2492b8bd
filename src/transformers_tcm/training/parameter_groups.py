"""Layer-wise learning rates and weight decay as TCM is trained."""

from typing import Any

from torch import nn

from ..models.tcm.modeling_tcm import TCMModel, TCMPreTrainedModel
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting

__all__ = ["freeze_detector", "freeze_text_encoder", "parameter_groups"]


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


def parameter_groups(
    model: TCMPreTrainedModel, learning_rate: float, weight_decay: float, image_encoder_scale: float | None = None
) -> list[dict[str, Any]]:
    """Groups for a torch optimizer; frozen parameters are left out.

    Only the weights of linear and convolutional layers decay: norms, biases, embeddings and prompts do not. The image
    encoder learns at `image_encoder_scale` times the rate. There are always four groups, also empty ones, so that the
    state of an optimizer can be loaded whatever the settings.

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
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    decaying = {id(module.weight) for module in model.modules() if isinstance(module, layers)}
    groups: dict[tuple[bool, bool], dict[str, Any]] = {
        (encoder, decays): {
            "params": [],
            "lr": learning_rate * (image_encoder_scale if encoder else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for encoder in (True, False)
        for decays in (True, False)
    }
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[id(parameter) in in_encoder, id(parameter) in decaying]["params"].append(parameter)
    return list(groups.values())


def _base_model(model: TCMPreTrainedModel) -> TCMModel:
    return model if isinstance(model, TCMModel) else model.model
