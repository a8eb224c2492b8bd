"""Pipelines and their registration with transformers."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers.pipelines
from transformers.pipelines import PIPELINE_REGISTRY

from ..models.auto import (
    AutoModelForOrientedObjectDetection,
    AutoModelForTextDetection,
    AutoModelForTextSpotting,
)
from ..models.bundled import BUNDLED_MODELS, DEFAULT_MODEL, DEFAULT_SPOTTER
from ..models.tcm.configuration_tcm import TCMConfig
from ..models.tcm.exported_tcm import is_exported, load_exported
from ..models.tcm.heads import head_class
from ..saving import WEIGHT_FILES
from .exported import OnnxOrientedObjectDetector, OnnxTextDetector, OnnxTextSpotter
from .oriented_object_detection import OrientedObjectDetectionPipeline
from .text_detection import TextDetectionPipeline
from .text_spotting import TextSpottingPipeline

__all__ = [
    "OnnxOrientedObjectDetector",
    "OnnxTextDetector",
    "OnnxTextSpotter",
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


_TASKS: dict[str, tuple[type[TextDetectionPipeline], type, dict[str, Any]]] = {
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
    logging.getLogger("transformers.pipelines.base").addFilter(_is_not_about_supported_models)
    _replace("load_model", _refusing_other_tasks)
    _replace("_resolve_video_processor", _without_videos)


def _replace(name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put something else in place of a function of `transformers.pipelines`, once; one that is gone stays so."""
    function = getattr(transformers.pipelines, name, None)
    if function is not None and not hasattr(function, "knows_text_models"):
        replacement: Any = functools.wraps(function)(make(function))
        replacement.knows_text_models = True
        setattr(transformers.pipelines, name, replacement)


def _refusing_other_tasks(load_model: Callable[..., Any]) -> Callable[..., Any]:
    """`pipeline("image-to-text", model=…)` of one of our models says which task it has.

    transformers would list every class that could not be loaded instead. A folder with an exported model and without
    weights is loaded as such.
    """

    def of_our_tasks(model: Any, *arguments: Any, **kwargs: Any) -> Any:
        config, task = kwargs.get("config"), kwargs.get("task")
        if isinstance(config, TCMConfig) and task not in (*_TASKS, "object-detection", None):
            kind, right = _kind_and_task(config)
            raise ValueError(f"{model} is {kind}, not for the task {task!r}: pipeline({right!r}, model=…)")
        if task in _TASKS and isinstance(model, str) and is_exported(model) and not _has_weights(model):
            return load_exported(model, _TASKS[task][0]._model_class)
        return load_model(model, *arguments, **kwargs)

    return of_our_tasks


def _has_weights(folder: str) -> bool:
    """Whether a folder holds weights of torch."""
    return any(path for pattern in WEIGHT_FILES for path in Path(folder).glob(pattern))


def _kind_and_task(config: TCMConfig) -> tuple[str, str]:
    """What a model of the configuration is, and the task of its pipeline."""
    if head_class(config.head_type).task == "oriented":
        return "a detector of oriented objects", "oriented-object-detection"
    return ("a text spotter", "text-spotting") if config.is_spotter else ("a text detector", "text-detection")


def _without_videos(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """`pipeline("object-detection", model=…)` of one of our models looks for no video processor.

    It would take the code of the image processor for that of one, and ask whether to run it.
    """

    def unless_ours(*arguments: Any, **kwargs: Any) -> Any:
        return None if isinstance(kwargs.get("config"), TCMConfig) else resolve(*arguments, **kwargs)

    return unless_ours


def _is_not_about_supported_models(record: logging.LogRecord) -> bool:
    """`pipeline("object-detection")` looks models up among those of transformers only, and runs ours all the same."""
    message = record.getMessage()
    return not (message.startswith("The model 'TCMFor") and "is not supported for object-detection" in message)


def _is_not_about_bundled_model(record: logging.LogRecord) -> bool:
    """The advice to pin the revision of a default model does not fit one that is installed with its code."""
    if record.args == (UserWarning,):  # a category, given as if to `warnings.warn`, which the text has no place for
        record.args = ()
    return str(BUNDLED_MODELS) not in record.getMessage()
