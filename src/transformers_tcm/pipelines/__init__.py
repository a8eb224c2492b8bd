"""Pipelines and their registration with transformers."""

import logging
from typing import Any

from transformers.pipelines import PIPELINE_REGISTRY

from ..models.auto import (
    AutoModelForOrientedObjectDetection,
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
)
from ..models.bundled import BUNDLED_MODELS, DEFAULT_MODEL, DEFAULT_SPOTTER
from .oriented_object_detection import OrientedObjectDetectionPipeline
from .text_detection import TextDetectionPipeline
from .text_spotting import TextSpottingPipeline

__all__ = [
    "OrientedObjectDetectionPipeline",
    "TextDetectionPipeline",
    "TextSpottingPipeline",
    "register_pipelines",
]


class _NoneBundled(dict[str, Any]):
    """The default of a task without one, for a message in place of a `KeyError` from within transformers."""

    def __getitem__(self, key: str) -> Any:
        raise ValueError('no model for oriented objects is bundled; name one, as in pipeline(…, model="my_detector")')


def _bundled(name: str) -> dict[str, Any]:
    return {"model": (str(BUNDLED_MODELS / name), None)}


_TASKS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "text-detection": (TextDetectionPipeline, AutoModelForTextDetection, _bundled(DEFAULT_MODEL)),
    "text-spotting": (TextSpottingPipeline, AutoModelForTextSpotting, _bundled(DEFAULT_SPOTTER)),
    "oriented-object-detection": (
        OrientedObjectDetectionPipeline,
        AutoModelForOrientedObjectDetection,
        _NoneBundled(model=None),
    ),
}


def register_pipelines() -> None:
    """Make `transformers.pipeline` know our tasks; calling it again changes nothing."""
    for task in _TASKS.keys() - set(PIPELINE_REGISTRY.get_supported_tasks()):
        pipeline_class, auto_class, default = _TASKS[task]
        PIPELINE_REGISTRY.register_pipeline(
            task,
            pipeline_class=pipeline_class,
            pt_model=auto_class,
            default=default,
            type="image",
        )
    # A filter that is there already is not added again.
    logging.getLogger("transformers.pipelines").addFilter(_is_not_about_bundled_model)


def _is_not_about_bundled_model(record: logging.LogRecord) -> bool:
    """The advice to pin the revision of a default model does not fit one that is installed with its code."""
    return str(BUNDLED_MODELS) not in record.getMessage()
