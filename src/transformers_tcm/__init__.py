"""TCM and FastTCM: CLIP turned into a scene text detector and spotter, as transformers models.

Importing the package makes the auto classes and `pipeline` of transformers know its models and its tasks.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from .images import load_image
from .instances import Instances, OrientedInstances, TextInstances
from .lexicon import Lexicon
from .models.auto import (
    AutoModelForOrientedObjectDetection,
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
    register_models,
)
from .models.bundled import bundled_model_path
from .models.tcm.configuration_tcm import TCMConfig, TCMVisionConfig
from .models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
from .models.tcm.modeling_clip_resnet import TCMVisionBackbone
from .models.tcm.modeling_tcm import TCMForTextDetection, TCMModel, TCMPreTrainedModel
from .models.tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
from .models.tcm.modeling_tcm_spotting import TCMForTextSpotting
from .pipelines import OrientedObjectDetectionPipeline, TextDetectionPipeline, TextSpottingPipeline, register_pipelines

if TYPE_CHECKING:
    from .models.tcm.image_processing_tcm import TCMImageProcessor
else:
    from .models.tcm.backends import image_processor_class

    TCMImageProcessor = image_processor_class()

__version__ = "0.1.0"

__all__ = [
    "AutoModelForOrientedObjectDetection",
    "AutoModelForTextDetection",
    "AutoModelForTextSpotting",
    "Instances",
    "Lexicon",
    "OrientedInstances",
    "OrientedObjectDetectionPipeline",
    "TCMConfig",
    "TCMForOrientedObjectDetection",
    "TCMForTextDetection",
    "TCMForTextSpotting",
    "TCMImageProcessor",
    "TCMImageProcessorPil",
    "TCMModel",
    "TCMPreTrainedModel",
    "TCMVisionBackbone",
    "TCMVisionConfig",
    "TextDetectionPipeline",
    "TextInstances",
    "TextSpottingPipeline",
    "__version__",
    "bundled_model_path",
    "load_image",
]

# They need more than a model does (OpenCV, shapely, datasets, …), hence are imported when first used.
_LAZY_MODULES = ("conversion", "data", "evaluation", "training", "visualization")


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY_MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_MODULES})


register_models()
register_pipelines()
