"""TCM and FastTCM: CLIP turned into a scene text detector and spotter, as transformers models.

Importing the package makes the auto classes and `pipeline` of transformers know its models and its tasks.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .images import load_image
    from .instances import Instances, OrientedInstances, TextInstances
    from .lexicon import Lexicon
    from .models.auto import (
        AutoModelForOrientedObjectDetection,
        AutoModelForTextDetection,
        AutoModelForTextSpotting,
    )
    from .models.bundled import bundled_model_path
    from .models.tcm.configuration_tcm import TCMConfig, TCMVisionConfig
    from .models.tcm.image_processing_pil_tcm import TCMImageProcessorPil
    from .models.tcm.image_processing_tcm import TCMImageProcessor
    from .models.tcm.modeling_clip_resnet import TCMVisionBackbone
    from .models.tcm.modeling_tcm import TCMForTextDetection, TCMModel, TCMPreTrainedModel
    from .models.tcm.modeling_tcm_oriented import TCMForOrientedObjectDetection
    from .models.tcm.modeling_tcm_spotting import TCMForTextSpotting
    from .pipelines import (
        OnnxOrientedObjectDetector,
        OnnxTextDetector,
        OnnxTextSpotter,
        OrientedObjectDetectionPipeline,
        TextDetectionPipeline,
        TextSpottingPipeline,
    )

__version__ = "0.2.0"

__all__ = [
    "AutoModelForOrientedObjectDetection",
    "AutoModelForTextDetection",
    "AutoModelForTextSpotting",
    "Instances",
    "Lexicon",
    "OnnxOrientedObjectDetector",
    "OnnxTextDetector",
    "OnnxTextSpotter",
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
    "register",
]

# Where the names are, which are imported when first used: most of them need torch and transformers.
_MODULE_OF = {
    "AutoModelForOrientedObjectDetection": "models.auto",
    "AutoModelForTextDetection": "models.auto",
    "AutoModelForTextSpotting": "models.auto",
    "Instances": "instances",
    "Lexicon": "lexicon",
    "OnnxOrientedObjectDetector": "pipelines",
    "OnnxTextDetector": "pipelines",
    "OnnxTextSpotter": "pipelines",
    "OrientedInstances": "instances",
    "OrientedObjectDetectionPipeline": "pipelines",
    "TCMConfig": "models.tcm.configuration_tcm",
    "TCMForOrientedObjectDetection": "models.tcm.modeling_tcm_oriented",
    "TCMForTextDetection": "models.tcm.modeling_tcm",
    "TCMForTextSpotting": "models.tcm.modeling_tcm_spotting",
    "TCMImageProcessorPil": "models.tcm.image_processing_pil_tcm",
    "TCMModel": "models.tcm.modeling_tcm",
    "TCMPreTrainedModel": "models.tcm.modeling_tcm",
    "TCMVisionBackbone": "models.tcm.modeling_clip_resnet",
    "TCMVisionConfig": "models.tcm.configuration_tcm",
    "TextDetectionPipeline": "pipelines",
    "TextInstances": "instances",
    "TextSpottingPipeline": "pipelines",
    "bundled_model_path": "models.bundled",
    "load_image": "images",
}
# They need more than a model does (OpenCV, shapely, datasets, …).
_LAZY_MODULES = ("conversion", "data", "evaluation", "export", "reading_order", "training", "visualization")


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f".{name}", __name__)
    if name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    elif name == "TCMImageProcessor":
        from .models.tcm.backends import image_processor_class

        value = image_processor_class()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY_MODULES})


def register() -> None:
    """Make the auto classes and `pipeline` know the models and the tasks; calling it again changes nothing."""
    from .models.auto import register_models
    from .pipelines import register_pipelines

    register_models()
    register_pipelines()


# The console script registers when it loads a model, so that `--help` and `--version` do not wait for torch.
if Path(sys.argv[0] if sys.argv else "").stem.removesuffix("-script") != "transformers-tcm":
    register()
