"""Pipelines and their registration with transformers."""

import logging

from transformers.pipelines import PIPELINE_REGISTRY

from ..models.auto import AutoModelForTextDetection, AutoModelForTextSpotting
from ..models.bundled import BUNDLED_MODELS, DEFAULT_MODEL, DEFAULT_SPOTTER
from .text_detection import TextDetectionPipeline
from .text_spotting import TextSpottingPipeline

__all__ = ["TextDetectionPipeline", "TextSpottingPipeline", "register_pipelines"]

_TASKS = {
    "text-detection": (TextDetectionPipeline, AutoModelForTextDetection, DEFAULT_MODEL),
    "text-spotting": (TextSpottingPipeline, AutoModelForTextSpotting, DEFAULT_SPOTTER),
}


def register_pipelines() -> None:
    """Make `transformers.pipeline` know our tasks; calling it again changes nothing."""
    for task in _TASKS.keys() - set(PIPELINE_REGISTRY.get_supported_tasks()):
        pipeline_class, auto_class, default = _TASKS[task]
        PIPELINE_REGISTRY.register_pipeline(
            task,
            pipeline_class=pipeline_class,
            pt_model=auto_class,
            default={"model": (str(BUNDLED_MODELS / default), None)},
            type="image",
        )
    # A filter that is there already is not added again.
    logging.getLogger("transformers.pipelines").addFilter(_is_not_about_bundled_model)


def _is_not_about_bundled_model(record: logging.LogRecord) -> bool:
    """The advice to pin the revision of a default model does not fit one that is installed with its code."""
    return str(BUNDLED_MODELS) not in record.getMessage()
