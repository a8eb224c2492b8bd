"""What of a model becomes a graph: the detector with all maps by name, the recogniser on crops, the language model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..models.tcm.configuration_tcm import TCMVisionConfig
from ..models.tcm.exported_tcm import DETECTOR, LANGUAGE_MODEL, RECOGNIZER
from ..models.tcm.modeling_tcm import TCMDetector, valid_sizes
from ..models.tcm.modeling_tcm_spotting import TCMForTextSpotting
from ..models.tcm.recognition.base import Recognizer
from ..models.tcm.recognition.language_model import CharacterLanguageModel

__all__ = [
    "PIXEL_TYPES",
    "DetectorGraph",
    "LanguageModelGraph",
    "Part",
    "RecognizerGraph",
    "flattened",
    "fold_batch_norms",
    "parts_of",
    "prepared",
]

# Of an image while a graph is traced: both sides differ, and neither is the grid of CLIP.
TRACED_SIZE = (160, 288)
STRIDE = 32
# Of either side, in strides. From the least on levels of stride 128 have two rows; torch takes a single one for another
# kind of size. The graphs compute smaller images all the same, and are compared at some.
LEAST_STEPS, MOST_STEPS = 5, 512
MOST_IMAGES, MOST_WORDS = 1024, 65536
# In which a detector takes its images: normalised, or as they are, to be normalised in the graph.
PIXEL_TYPES = {"float32": torch.float32, "uint8": torch.uint8}
Tensors = dict[str, torch.Tensor]


class DetectorGraph(nn.Module):
    """A whole detector as a function of tensors to tensors by name.

    Args:
        model: detector or spotter, see `prepared`.
    """

    def __init__(self, model: TCMDetector):
        super().__init__()
        self.model: Any = model

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> Tensors:
        """Images (B, 3, H, W), normalised or of bytes, and their masks (B, H, W) to the head's maps, `score_map` where
        there is one and, of a spotter with a recogniser, the `features` (B, C, h, w) that words are cut out of."""
        model = self.model
        pixel_values = in_strides(pixel_values)
        outputs = model.model(pixel_values, pixel_mask, return_dict=True)
        maps = model._detect(outputs, pixel_mask, valid_sizes(pixel_values, pixel_mask), False)
        found = flattened(maps)
        if outputs.score_map is not None:
            found["score_map"] = outputs.score_map
        if isinstance(model, TCMForTextSpotting) and model.recognizer is not None:
            found["features"] = model._features(outputs)
        return found


class RecognizerGraph(nn.Module):
    """A recogniser from crops to logits.

    Args:
        recognizer: of a spotter.
    """

    def __init__(self, recognizer: Recognizer):
        super().__init__()
        self.recognizer = recognizer

    def forward(self, crops: torch.Tensor) -> Tensors:
        """Crops (N, C, h, w) to `char_logits` (N, T, classes) and, where it tells where words begin and end,
        `boundary_logits` (N, T, 1)."""
        states = self.recognizer.encoder(crops)
        found = {"char_logits": self.recognizer.classify(states, None)}
        if self.recognizer.boundaries is not None:
            found["boundary_logits"] = self.recognizer.boundaries(states)
        return found


class LanguageModelGraph(nn.Module):
    """A language model from contexts to logits.

    Args:
        language_model: of a recogniser, or of a head that reads.
    """

    def __init__(self, language_model: nn.Module):
        super().__init__()
        self.language_model = language_model

    def forward(self, contexts: torch.Tensor) -> Tensors:
        """Contexts (M, W) to `logits` (M, S)."""
        return {"logits": self.language_model(contexts)}


@dataclass(frozen=True)
class Part:
    """A graph to be made.

    Args:
        name: of its file.
        module: what it does.
        inputs: an example, by name.
        dynamic_shapes: which axes of each input have any size, as `torch.export` takes it.
    """

    name: str
    module: nn.Module
    inputs: Tensors
    dynamic_shapes: dict[str, dict[int, Any]]

    def outputs(self) -> list[str]:
        """Names of what it gives."""
        with torch.no_grad():
            return list(self.module(**self.inputs))


def in_strides(images: torch.Tensor) -> torch.Tensor:
    """Images (…, H, W) as they are, with sides that are written as multiples of 32.

    Of these the exporter knows that every stage halves them. Of others it keeps the rounding of each stage, and takes
    minutes to compare sums of such sizes, as heads on deformable attention have.
    """
    height, width = (size // STRIDE * STRIDE for size in images.shape[-2:])
    return images[..., :height, :width]


def flattened(maps: Mapping[str, Any]) -> Tensors:
    """A head's maps (B, …), the levels of tuples as `name.0`, `name.1`, …; what is `None` is left out."""
    flat: Tensors = {}
    for name, value in maps.items():
        levels = {f"{name}.{level}": part for level, part in enumerate(value)} if isinstance(value, tuple) else {}
        flat |= levels or {name: value}
    return flat


def fold_batch_norms(module: nn.Module) -> None:
    """Put convolutions with other weights in the place of convolutions that a batch norm follows, everywhere inside.

    Also of those that are no `TCMConvNorm`, and for good: quantisation wants the weights that are computed with.
    """
    for name, child in list(module.named_children()):
        if not isinstance(child, nn.Sequential):
            fold_batch_norms(child)
            continue
        layers: list[nn.Module] = []
        for layer in child:
            before = layers[-1] if layers else None
            if isinstance(layer, nn.BatchNorm2d) and isinstance(before, (nn.Conv2d, nn.ConvTranspose2d)):
                layers[-1] = fuse_conv_bn_eval(before, layer, transpose=isinstance(before, nn.ConvTranspose2d))
            else:
                layers.append(layer)
        if len(layers) == len(child):
            fold_batch_norms(child)
        else:
            setattr(module, name, nn.Sequential(*layers))


def prepared(model: TCMDetector) -> TCMDetector:
    """A copy for inference in float32: text fused where it can be, batch norms folded."""
    found: TCMDetector = copy.deepcopy(model).float().cpu().eval()
    for parameter in found.parameters():
        parameter.requires_grad_(False)
    if found.config.prompting == "fasttcm":
        found.fuse_text_embeddings()
    fold_batch_norms(found)
    return found


def parts_of(model: TCMDetector, pixel_type: str = "float32") -> list[Part]:
    """The graphs of a model that is `prepared`, the detector's of images of a type of `PIXEL_TYPES`."""
    recognizer = getattr(model, "recognizer", None)
    parts = [_detector(model, PIXEL_TYPES[pixel_type])]
    if recognizer is not None:
        parts.append(_recognizer(recognizer, model))
    language_model = (recognizer or model.head).language_model
    if language_model is not None:
        parts.append(_language_model(language_model))
    return parts


def _detector(model: TCMDetector, pixel_type: torch.dtype) -> Part:
    height, width = TRACED_SIZE
    inputs = {
        "pixel_values": torch.zeros(2, _vision(model).num_channels, height, width, dtype=pixel_type),
        "pixel_mask": torch.ones(2, height, width, dtype=torch.int64),
    }
    images = torch.export.Dim("images", min=1, max=MOST_IMAGES)
    rows, columns = (STRIDE * torch.export.Dim(name, min=LEAST_STEPS, max=MOST_STEPS) for name in ("rows", "columns"))
    shapes = {
        "pixel_values": {0: images, 2: rows, 3: columns},
        "pixel_mask": {0: images, 1: rows, 2: columns},
    }
    return Part(DETECTOR, DetectorGraph(model), inputs, shapes)


def _vision(model: TCMDetector) -> TCMVisionConfig:
    vision = model.config.vision_config
    assert isinstance(vision, TCMVisionConfig)  # from construction on
    return vision


def _recognizer(recognizer: Recognizer, model: TCMDetector) -> Part:
    settings, vision = recognizer.settings, _vision(model)
    channels = vision.width if settings.feature_stride == 2 else vision.hidden_sizes[0]
    crops = torch.zeros(3, channels, *settings.crop_size)
    words = {"crops": {0: torch.export.Dim("words", min=1, max=MOST_WORDS)}}
    return Part(RECOGNIZER, RecognizerGraph(recognizer), {"crops": crops}, words)


def _language_model(language_model: CharacterLanguageModel) -> Part:
    contexts = torch.zeros(3, language_model.settings.context, dtype=torch.int64)
    many = {"contexts": {0: torch.export.Dim("contexts", min=1, max=MOST_WORDS)}}
    return Part(LANGUAGE_MODEL, LanguageModelGraph(language_model), {"contexts": contexts}, many)
