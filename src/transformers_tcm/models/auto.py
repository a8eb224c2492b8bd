"""Auto classes for tasks that transformers does not have, and the registration of our models with those it has."""

from collections import OrderedDict
from typing import Any

import transformers.pipelines
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForObjectDetection,
    AutoProcessor,
)

# Private: a new auto class cannot be made in another way. Nothing else in the package imports from there.
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from .bundled import take_bundled_names
from .tcm.backends import torchvision_works
from .tcm.configuration_tcm import TCMConfig, TCMVisionConfig
from .tcm.image_processing_pil_tcm import TCMImageProcessorPil
from .tcm.modeling_clip_resnet import TCMVisionBackbone
from .tcm.modeling_tcm import TCMForTextDetection, TCMModel, TCMPreTrainedModel
from .tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
from .tcm.modeling_tcm_spotting import TCMForTextSpotting

__all__ = [
    "AutoModelForOrientedObjectDetection",
    "AutoModelForTextDetection",
    "AutoModelForTextSpotting",
    "register_models",
]


class AutoModelForTextDetection(_BaseAutoModelClass):
    """The text detector that a checkpoint or a configuration describes.

    `AutoModelForTextDetection.from_pretrained(folder)` loads one, `AutoModelForTextDetection.from_config(config)`
    builds one with random weights, `AutoModelForTextDetection.register(ConfigClass, ModelClass)` adds a kind of one.
    """

    _model_mapping: Any = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForTextSpotting(_BaseAutoModelClass):
    """The text spotter, which finds and reads, that a checkpoint or a configuration describes.

    It is used as `AutoModelForTextDetection` is.
    """

    _model_mapping: Any = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


class AutoModelForOrientedObjectDetection(_BaseAutoModelClass):
    """The detector of oriented objects that a checkpoint or a configuration describes.

    It is used as `AutoModelForTextDetection` is.
    """

    _model_mapping: Any = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


def register_models() -> None:
    """Make the auto classes know our models; calling it again changes nothing."""
    AutoConfig.register(TCMConfig.model_type, TCMConfig, exist_ok=True)
    AutoConfig.register(TCMVisionConfig.model_type, TCMVisionConfig, exist_ok=True)
    detectors = (TCMForTextDetection, TCMForOrientedObjectDetection)
    # `config.architectures` chooses from the tuple, the first where it is empty.
    AutoModel.register(TCMConfig, (TCMModel, *detectors, TCMForTextSpotting), exist_ok=True)
    AutoBackbone.register(TCMVisionConfig, TCMVisionBackbone, exist_ok=True)
    AutoModelForTextDetection.register(TCMConfig, TCMForTextDetection, exist_ok=True)
    AutoModelForTextSpotting.register(TCMConfig, TCMForTextSpotting, exist_ok=True)
    AutoModelForOrientedObjectDetection.register(TCMConfig, TCMForOrientedObjectDetection, exist_ok=True)
    # Where transformers keeps its own text detectors.
    AutoModelForObjectDetection.register(TCMConfig, detectors, exist_ok=True)
    AutoImageProcessor.register(TCMConfig, image_processor_classes=_image_processor_classes(), exist_ok=True)
    _accept_bundled_names()


def _accept_bundled_names() -> None:
    """`from_pretrained("fasttcm-spotter-tiny")` and `pipeline(…, model=…)` of that name load what is installed.

    transformers has no place to register names, and asks the Hub for any that is no folder. All its auto classes load
    through these; `pipeline` looks a name up in two further functions before it loads anything.
    """
    processors = _image_processor_classes().values()
    ours = (TCMConfig, TCMVisionConfig, TCMPreTrainedModel, TCMVisionBackbone, *processors)
    for loader in (_BaseAutoModelClass, AutoConfig, AutoImageProcessor, AutoProcessor, *ours):
        take_bundled_names(loader, "from_pretrained")
    for function in ("resolve_revision", "find_adapter_config_file"):
        if hasattr(transformers.pipelines, function):
            take_bundled_names(transformers.pipelines, function)


def _image_processor_classes() -> dict[str, type]:
    """Classes by backend. Without torchvision its class can be made but fails when it is used."""
    classes: dict[str, type] = {"pil": TCMImageProcessorPil}
    if torchvision_works():
        from .tcm.image_processing_tcm import TCMImageProcessor

        classes["torchvision"] = TCMImageProcessor
    return classes
