"""Pipelines and their registration with transformers."""

import logging

from transformers.pipelines import PIPELINE_REGISTRY

from ..models.auto import AutoModelForTextDetection
from ..models.bundled import BUNDLED_MODELS, DEFAULT_MODEL
from .text_detection import TextDetectionPipeline

__all__ = ["TextDetectionPipeline", "register_pipelines"]


def register_pipelines() -> None:
    """Make `transformers.pipeline` know our tasks; calling it again changes nothing."""
    if "text-detection" in PIPELINE_REGISTRY.get_supported_tasks():
        return
    PIPELINE_REGISTRY.register_pipeline(
        "text-detection",
        pipeline_class=TextDetectionPipeline,
        pt_model=AutoModelForTextDetection,
        default={"model": (str(BUNDLED_MODELS / DEFAULT_MODEL), None)},
        type="image",
    )
    logging.getLogger("transformers.pipelines").addFilter(_is_not_about_bundled_model)


def _is_not_about_bundled_model(record: logging.LogRecord) -> bool:
    """The advice to pin the revision of a default model does not fit one that is installed with its code."""
    return str(BUNDLED_MODELS) not in record.getMessage()
